// NumPy's .npy: 6 bytes of magic, 2 of version, the header's length, a Python dict as text, the elements.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <utility>

#include "muse/check.h"
#include "tensor_parts.h"

namespace muse {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view kMagic = "\x93NUMPY"sv;
constexpr std::size_t kLargestPreamble = 12;   // magic, version, length of version 2 and 3
constexpr std::size_t kLargestHeader = 65536;  // numpy itself reads at most 10,000 characters
constexpr std::size_t kLargestRank = 32;       // numpy's own limit
constexpr std::size_t kAlignment = 64;         // of the first element in the file

struct Header {
  DType dtype = DType::float32;
  std::vector<std::int64_t> shape;
  std::size_t first_element = 0;  // offset in the file, bytes
};

// Parses the dict {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), } and nothing more general.
class DictParser {
 public:
  DictParser(std::string_view text, std::string_view name) : text_(text), name_(name) {}

  Header parse() {
    std::optional<DType> dtype;
    std::optional<bool> fortran_order;
    std::optional<std::vector<std::int64_t>> shape;
    expect('{');
    while (!accept('}')) {
      const std::string_view key = quoted();
      expect(':');
      if (key == "descr" && !dtype)
        dtype = descr();
      else if (key == "fortran_order" && !fortran_order)
        fortran_order = boolean();
      else if (key == "shape" && !shape)
        shape = tuple();
      else
        fail(fmt::format("a key '{}' that is unknown or comes twice", detail::excerpt(key)));
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_space();
    if (at_ != text_.size()) fail("text after the closing brace");
    if (!dtype || !fortran_order || !shape) fail("a dict that lacks one of them");
    const auto wide =
        std::count_if(shape->begin(), shape->end(), [](std::int64_t extent) { return extent != 1; });
    if (*fortran_order && wide > 1)
      throw FileError(
          fmt::format("{}: expected C order (last index fastest), found Fortran order; save "
                      "numpy.ascontiguousarray(array)",
                      name_));
    return {*dtype, std::move(*shape), 0};
  }

 private:
  [[noreturn]] void fail(const std::string& found) const {
    throw FileError(
        fmt::format("{}: expected a .npy header with 'descr', 'fortran_order' and 'shape', found {}: {}",
                    name_, found, detail::excerpt(text_)));
  }

  void skip_space() {
    while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != std::string_view::npos)
      ++at_;
  }

  bool accept(char wanted) {
    skip_space();
    if (at_ == text_.size() || text_[at_] != wanted) return false;
    ++at_;
    return true;
  }

  void expect(char wanted) {
    if (!accept(wanted)) fail(fmt::format("no '{}' at character {}", wanted, at_));
  }

  std::string_view quoted() {
    skip_space();
    const char quote = at_ < text_.size() ? text_[at_] : '\0';
    if (quote != '\'' && quote != '"') fail(fmt::format("no quoted text at character {}", at_));
    const std::size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) fail("a quote that is not closed");
    const std::string_view inside = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    return inside;
  }

  DType descr() {
    skip_space();
    if (at_ < text_.size() && text_[at_] == '[')
      throw FileError(fmt::format("{}: expected elements of one type, found a structured array", name_));
    const std::string_view found = quoted();
    std::string_view type = found;
    if (type.starts_with('>'))
      throw FileError(fmt::format("{}: expected little-endian elements, found '{}'; save array.astype('<f4')",
                                  name_, detail::excerpt(found)));
    if (!type.empty() && std::string_view("<=|").find(type[0]) != std::string_view::npos)
      type.remove_prefix(1);
    if (type == "f2") return DType::float16;
    if (type == "f4") return DType::float32;
    if (type == "f8") return DType::float64;
    if (type == "i4") return DType::int32;
    throw FileError(fmt::format(
        "{}: expected elements '<f2', '<f4', '<f8' or '<i4', found '{}'{}", name_, detail::excerpt(found),
        type.starts_with('O') ? " (Python objects, which are never read)" : "; save array.astype('<f4')"));
  }

  bool boolean() {
    skip_space();
    for (const auto& [word, value] : {std::pair("True"sv, true), std::pair("False"sv, false)}) {
      if (!text_.substr(at_).starts_with(word)) continue;
      at_ += word.size();
      return value;
    }
    fail(fmt::format("neither True nor False at character {}", at_));
  }

  std::vector<std::int64_t> tuple() {
    std::vector<std::int64_t> shape;
    expect('(');
    while (!accept(')')) {
      skip_space();
      std::int64_t extent = -1;
      const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), extent);
      if (error != std::errc() || extent < 0)
        fail(fmt::format("no extent from 0 to 2^63 - 1 at character {}", at_));
      at_ = static_cast<std::size_t>(end - text_.data());
      if (at_ < text_.size() && text_[at_] == 'L') ++at_;  // Python 2 wrote (3L, 4L)
      shape.push_back(extent);
      if (shape.size() > kLargestRank) fail(fmt::format("more than {} axes", kLargestRank));
      if (!accept(',')) {
        // One extent without a comma is a number in parentheses, not a tuple.
        if (shape.size() == 1) fail("a shape that is not a tuple");
        expect(')');
        break;
      }
    }
    return shape;
  }

  std::string_view text_;
  std::string_view name_;
  std::size_t at_ = 0;
};

// Where the header ends, from the file's first bytes (at least kLargestPreamble of them, or the whole file).
struct Preamble {
  std::size_t begin = 0;  // of the dict
  std::size_t end = 0;    // of the dict, and where the elements begin
};

Preamble parse_preamble(std::span<const std::byte> start, std::uint64_t file_size, std::string_view name) {
  const std::string_view text = detail::as_text(start);
  const auto byte_at = [&](std::size_t i) { return std::to_integer<std::size_t>(start[i]); };
  if (!text.starts_with(kMagic))
    throw FileError(fmt::format("{}: expected a .npy array (first bytes \\x93NUMPY), found \"{}\"", name,
                                detail::excerpt(text.substr(0, kMagic.size()))));
  if (start.size() < 10)
    throw FileError(fmt::format("{}: expected a .npy header, found a file of {} bytes", name, file_size));
  const std::size_t major = byte_at(6);
  const std::size_t minor = byte_at(7);
  if (major < 1 || major > 3 || minor != 0)
    throw FileError(
        fmt::format("{}: expected .npy version 1.0, 2.0 or 3.0, found {}.{}", name, major, minor));
  const std::size_t begin = major == 1 ? 10 : 12;
  if (start.size() < begin)
    throw FileError(fmt::format("{}: expected a .npy header, found a file of {} bytes", name, file_size));
  std::size_t length = byte_at(8) | byte_at(9) << 8U;
  if (major > 1) length |= byte_at(10) << 16U | byte_at(11) << 24U;
  if (length < 2 || length > file_size - begin || length > kLargestHeader)
    throw FileError(fmt::format("{}: expected a header of 2 to {} bytes, found a length of {}", name,
                                std::min<std::uint64_t>(file_size - begin, kLargestHeader), length));
  return {begin, begin + length};
}

Header parse_header(std::span<const std::byte> start, const Preamble& preamble, std::uint64_t file_size,
                    std::string_view name) {
  const auto dict = detail::as_text(start.subspan(preamble.begin, preamble.end - preamble.begin));
  Header header = DictParser(dict, name).parse();
  header.first_element = preamble.end;
  const std::uint64_t found = file_size - preamble.end;
  const auto expected = detail::byte_count(header.dtype, header.shape);
  if (!expected || *expected != found)
    throw FileError(fmt::format("{}: expected {} bytes of elements for shape [{}] of {}, found {}{}", name,
                                expected ? std::to_string(*expected) : "more than 2^63",
                                fmt::join(header.shape, ", "), name_of(header.dtype), found,
                                !expected || *expected > found ? "; is the file cut short?" : ""));
  return header;
}

std::string header_text(DType dtype, const std::vector<std::int64_t>& shape) {
  const char* descr = dtype == DType::float16   ? "<f2"
                      : dtype == DType::float32 ? "<f4"
                      : dtype == DType::float64 ? "<f8"
                                                : "<i4";
  std::string dict = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}{}), }}", descr,
                                 fmt::join(shape, ", "), shape.size() == 1 ? "," : "");
  // Pad with spaces, so that the elements are aligned; the header ends with a newline.
  const std::size_t unpadded = kMagic.size() + 4 + dict.size() + 1;
  dict.append((kAlignment - unpadded % kAlignment) % kAlignment, ' ') += '\n';
  std::string text(kMagic);
  text += {'\x01', '\x00', static_cast<char>(dict.size() & 0xffU), static_cast<char>(dict.size() >> 8U)};
  return text + dict;
}

}  // namespace

namespace detail {

std::optional<std::uint64_t> byte_count(DType dtype, std::span<const std::int64_t> shape) {
  // Let a zero extent hide no overflow: NumPy too refuses shapes whose other extents are out of range.
  constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  std::uint64_t bytes = size_of(dtype);
  bool is_empty = false;
  for (const std::int64_t extent : shape) {
    if (extent < 0) return std::nullopt;
    if (extent == 0) {
      is_empty = true;
      continue;
    }
    if (static_cast<std::uint64_t>(extent) > kMost / bytes) return std::nullopt;
    bytes *= static_cast<std::uint64_t>(extent);
  }
  return is_empty ? 0 : bytes;
}

Array take_npy(std::vector<std::byte>&& bytes, std::string_view name) {
  const Preamble preamble = parse_preamble(bytes, bytes.size(), name);
  Header header = parse_header(bytes, preamble, bytes.size(), name);
  bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(header.first_element));
  return {header.dtype, std::move(header.shape), std::move(bytes)};
}

}  // namespace detail

Array parse_npy(std::span<const std::byte> bytes, std::string_view name) {
  const Preamble preamble = parse_preamble(bytes, bytes.size(), name);
  Header header = parse_header(bytes, preamble, bytes.size(), name);
  const auto elements = bytes.subspan(header.first_element);
  return {header.dtype, std::move(header.shape), {elements.begin(), elements.end()}};
}

Array read_npy(const std::filesystem::path& path) {
  const std::string name = path.string();
  // Read the header, and then the elements straight to where they stay.
  detail::InputFile file(path, "a .npy array");
  std::vector<std::byte> start(std::min<std::uint64_t>(file.size(), kLargestPreamble));
  file.read(start);
  const Preamble preamble = parse_preamble(start, file.size(), name);
  start.resize(preamble.end);
  file.read(std::span(start).subspan(kLargestPreamble));
  Header header = parse_header(start, preamble, file.size(), name);
  Array array{header.dtype, std::move(header.shape), detail::allocate(file.size() - preamble.end, name)};
  file.read(array.bytes);
  return array;
}

void write_npy(const std::filesystem::path& path, const Array& array) {
  if (array.dtype == DType::bfloat16) {
    // NumPy has no bfloat16: widen, which is exact.
    std::vector<float> values(static_cast<std::size_t>(array.size()));
    convert<float>(array, 0, values);
    write_npy(path, make_array<float>(DType::float32, array.shape, values));
    return;
  }
  MUSE_REQUIRE(detail::byte_count(array.dtype, array.shape) == array.bytes.size(), path.string(), ": shape ",
               array.shape_text(), " of ", name_of(array.dtype), " does not fit ", array.bytes.size(),
               " bytes");
  detail::write_file(path, header_text(array.dtype, array.shape), array.bytes);
}

}  // namespace muse
