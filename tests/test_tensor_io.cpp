#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

#include "muse/check.h"
#include "muse/tensor_io.h"

using namespace muse;
using namespace std::string_literals;
namespace fs = std::filesystem;

namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;  // the sanitizer reserves more address space than any limit allows
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif
#else
constexpr bool kSanitized = false;
#endif

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// A folder of this process alone, removed at the end.
struct TempFolder {
  fs::path path;
  TempFolder() {
    static int count = 0;
    path = fs::temp_directory_path() /
           ("muse_test_tensor_io_" + std::to_string(getpid()) + "_" + std::to_string(count++));
    fs::create_directories(path);
  }
  ~TempFolder() {
    std::error_code error;
    fs::remove_all(path, error);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  fs::path operator/(const std::string& name) const { return path / name; }
};

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

void write_text(const fs::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

// The message with which `call` is refused, after its exit status; or what happened instead.
std::string refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return std::to_string(static_cast<int>(error.status())) + ": " + error.what();
  } catch (const std::exception& error) {
    return "another exception: "s + error.what();
  }
  return "accepted";
}

// Checks the exit status and that the message has every part.
void check_refused(const std::function<void()>& call, int status,
                   std::initializer_list<std::string_view> parts) {
  const std::string message = refusal(call);
  CAPTURE(message);
  CHECK(message.starts_with(std::to_string(status) + ": "));
  for (const std::string_view part : parts) {
    CAPTURE(part);
    CHECK(contains(message, part));
  }
}

std::string npy(const std::string& dict, const std::string& elements, char major = 1) {
  std::string text = "\x93NUMPY";
  text += major;
  text += '\0';
  for (int i = 0; i < (major == 1 ? 2 : 4); ++i) text += static_cast<char>(dict.size() >> (8 * i) & 0xffU);
  return text + dict + elements;
}

std::string npy_of(const std::string& descr, const std::string& shape, const std::string& elements,
                   char major = 1, const std::string& fortran = "False") {
  return npy("{'descr': '" + descr + "', 'fortran_order': " + fortran + ", 'shape': " + shape + ", }\n",
             elements, major);
}

Array filled(DType dtype, std::vector<std::int64_t> shape, float first = 1) {
  std::vector<float> values(static_cast<std::size_t>(
      std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>())));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = first + 0.25F * static_cast<float>(i % 64);
  return make_array<float>(dtype, std::move(shape), values);
}

std::string npy_bytes(const Array& array) {
  const TempFolder folder;
  write_npy(folder / "a.npy", array);
  return read_text(folder / "a.npy");
}

std::vector<double> values_of(const Array& array) {
  std::vector<double> values(static_cast<std::size_t>(array.size()));
  convert<double>(array, 0, values);
  return values;
}

void check_same(const Array& a, const Array& b) {
  CHECK(a.dtype == b.dtype);
  CHECK(a.shape == b.shape);
  CHECK(a.bytes == b.bytes);
}

Dump small_dump(DType dtype = DType::float32) {
  Dump dump;
  dump.q = filled(dtype, {1, 4, 5, 3}, 1);
  dump.k = filled(dtype, {1, 2, 6, 3}, 2);
  dump.v = filled(dtype, {1, 2, 6, 7}, 3);
  dump.scale = 0.3;
  return dump;
}

// Writes the small dump to `folder` with some arrays replaced and meta.json as given.
void write_parts(const TempFolder& folder, const Array& q, const Array& k, const Array& v,
                 const std::string& meta = R"({"format": "muse-dump/1"})") {
  write_npy(folder / "q.npy", q);
  write_npy(folder / "k.npy", k);
  write_npy(folder / "v.npy", v);
  write_text(folder / "meta.json", meta);
}

std::uint32_t crc32(const std::string& text) {
  std::uint32_t crc = ~0U;
  for (const char c : text) {
    crc ^= static_cast<unsigned char>(c);
    for (int i = 0; i < 8; ++i) crc = crc >> 1U ^ ((crc & 1U) != 0 ? 0xedb88320U : 0U);
  }
  return ~crc;
}

std::string little(std::uint64_t value, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += static_cast<char>(value >> (8 * i) & 0xffU);
  return text;
}

struct ZipMember {
  std::string name;
  std::string content;
  bool is_deflated = false;
  std::uint16_t flags = 0;
  std::uint32_t crc_error = 0;
  std::optional<std::uint32_t> declared = {};
  std::optional<std::uint32_t> declared_compressed = {};
  std::optional<std::uint16_t> method = {};
};

// A zip archive; a deflated member consists of deflate's uncompressed blocks.
std::string zip(const std::vector<ZipMember>& members) {
  std::string archive;
  std::string directory;
  for (const ZipMember& member : members) {
    std::string data = member.content;
    if (member.is_deflated) {
      data.clear();
      for (std::size_t at = 0; at == 0 || at < member.content.size(); at += 65535) {
        const std::string block = member.content.substr(at, 65535);
        data += (at + 65535 >= member.content.size() ? '\1' : '\0') + little(block.size(), 2) +
                little(~block.size() & 0xffffU, 2) + block;
      }
    }
    const std::string common = little(20, 2) + little(member.flags, 2) +
                               little(member.method.value_or(member.is_deflated ? 8 : 0), 2) + little(0, 2) +
                               little(0x21, 2) + little(crc32(member.content) ^ member.crc_error, 4) +
                               little(member.declared_compressed.value_or(data.size()), 4) +
                               little(member.declared.value_or(member.content.size()), 4) +
                               little(member.name.size(), 2) + little(0, 2);
    directory += "PK\1\2" + little(20, 2) + common + little(0, 2) + little(0, 2) + little(0, 2) +
                 little(0, 4) + little(archive.size(), 4) + member.name;
    archive += "PK\3\4" + common + member.name + data;
  }
  return archive + directory + "PK\5\6" + little(0, 4) + little(members.size(), 2) +
         little(members.size(), 2) + little(directory.size(), 4) + little(archive.size(), 4) + little(0, 2);
}

std::vector<ZipMember> npz_members(bool is_deflated = false) {
  Dump dump = small_dump();
  for (Array* array : {&dump.q, &dump.k, &dump.v}) array->shape.erase(array->shape.begin());
  std::vector<ZipMember> members;
  members.push_back({"q.npy", npy_bytes(dump.q), is_deflated});
  members.push_back({"k.npy", npy_bytes(dump.k), is_deflated});
  members.push_back({"v.npy", npy_bytes(dump.v), is_deflated});
  return members;
}

std::string safetensors(const std::string& header, const std::string& data) {
  return little(header.size(), 8) + header + data;
}

std::string raw(const Array& array) {
  return {reinterpret_cast<const char*>(array.bytes.data()), array.bytes.size()};
}

// The small dump's tensors; `edit` changes the header before it is written.
std::string safetensors_of(const Dump& dump, const char* dtype,
                           const std::function<void(nlohmann::json&)>& edit = {}) {
  nlohmann::json header;
  std::string data;
  for (const auto& [name, array] :
       {std::pair("q", &dump.q), std::pair("k", &dump.k), std::pair("v", &dump.v)}) {
    const std::size_t begin = data.size();
    data += raw(*array);
    header[name] = {{"dtype", dtype}, {"shape", array->shape}, {"data_offsets", {begin, data.size()}}};
  }
  if (edit) edit(header);
  return safetensors(header.dump(), data);
}

// Runs `call` in a child that may take 64 MiB more address space than it has; tells whether it was refused as
// a file problem for a reason other than memory.
bool is_refused_without_memory(const std::function<void()>& call) {
  const pid_t child = fork();
  if (child == 0) {
    if (!kSanitized) {
      std::size_t pages = 0;
      std::ifstream("/proc/self/statm") >> pages;
      const rlim_t limit = pages * static_cast<std::size_t>(sysconf(_SC_PAGESIZE)) + (rlim_t{64} << 20);
      const rlimit both{limit, limit};
      if (setrlimit(RLIMIT_AS, &both) != 0) _exit(3);
    }
    const std::string message = refusal(call);
    _exit(message.starts_with("2: ") && !contains(message, "memory") ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// The value of IEEE half-precision bits, from its definition.
double half_value(unsigned bits) {
  const double sign = (bits & 0x8000U) != 0 ? -1 : 1;
  const int exponent = static_cast<int>(bits >> 10U & 31U);
  const double fraction = bits & 1023U;
  if (exponent == 31) return fraction == 0 ? sign * HUGE_VAL : std::nan("");
  return sign * (exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25));
}

double bfloat16_value(unsigned bits) {
  const double sign = (bits & 0x8000U) != 0 ? -1 : 1;
  const int exponent = static_cast<int>(bits >> 7U & 255U);
  const double fraction = bits & 127U;
  if (exponent == 255) return fraction == 0 ? sign * HUGE_VAL : std::nan("");
  return sign * (exponent == 0 ? std::ldexp(fraction, -133) : std::ldexp(128 + fraction, exponent - 134));
}

Array all_bit_patterns(DType dtype) {
  Array array{dtype, {65536}, std::vector<std::byte>(2 * 65536)};
  for (unsigned bits = 0; bits < 65536; ++bits) {
    array.bytes[2 * bits] = static_cast<std::byte>(bits & 0xffU);
    array.bytes[2 * bits + 1] = static_cast<std::byte>(bits >> 8U);
  }
  return array;
}

template <class Scalar>
unsigned rounded_bits(DType dtype, Scalar value) {
  const Array array = make_array<Scalar>(dtype, {}, std::span<const Scalar>(&value, 1));
  return std::to_integer<unsigned>(array.bytes[0]) | std::to_integer<unsigned>(array.bytes[1]) << 8U;
}

// Counts the bit patterns whose conversion differs from their definition, and the roundings that are not to
// the nearest (even) neighbour. `most` is the largest finite number's bits.
void check_16_bits(DType dtype, double (*value_of)(unsigned), unsigned most) {
  const Array array = all_bit_patterns(dtype);
  std::vector<float> floats(65536);
  std::vector<double> doubles(65536);
  convert<float>(array, 0, floats);
  convert<double>(array, 0, doubles);
  const Array again = make_array<float>(dtype, {65536}, floats);
  const Array again_from_double = make_array<double>(dtype, {65536}, doubles);
  int wrong = 0;
  int not_taken_back = 0;
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const double expected = value_of(bits);
    if (std::isnan(expected)) {
      wrong += std::isnan(floats[bits]) && std::isnan(doubles[bits]) ? 0 : 1;
      continue;
    }
    wrong += floats[bits] == expected && doubles[bits] == expected &&
                     std::signbit(floats[bits]) == ((bits & 0x8000U) != 0)
                 ? 0
                 : 1;
    for (const Array* one : {&again, &again_from_double})
      not_taken_back += std::memcmp(&one->bytes[2 * bits], &array.bytes[2 * bits], 2) == 0 ? 0 : 1;
  }
  CHECK(wrong == 0);
  CHECK(not_taken_back == 0);
  CHECK(count_non_finite(array) == 2 * (0x8000 - static_cast<int>(most) - 1));

  int wrong_rounding = 0;
  for (unsigned bits = 0; bits < most; ++bits) {
    const double middle = (value_of(bits) + value_of(bits + 1)) / 2;
    const unsigned even = bits + (bits & 1U);
    for (const auto& [value, expected] : {std::pair(middle, even),
                                          {std::nextafter(middle, 0), bits},
                                          {std::nextafter(middle, HUGE_VAL), bits + 1}}) {
      wrong_rounding += rounded_bits<double>(dtype, value) == expected ? 0 : 1;
      wrong_rounding += rounded_bits<double>(dtype, -value) == (expected | 0x8000U) ? 0 : 1;
    }
    wrong_rounding += rounded_bits<float>(dtype, static_cast<float>(middle)) == even ? 0 : 1;
  }
  CHECK(wrong_rounding == 0);
  CHECK(rounded_bits<double>(dtype, 1e300) == most + 1);
  CHECK(rounded_bits<double>(dtype, -HUGE_VAL) == (0x8000U | (most + 1)));
}

}  // namespace

TEST_CASE("float16: all 65536 bit patterns convert as IEEE 754 defines them and round to nearest even") {
  check_16_bits(DType::float16, half_value, 0x7bff);
}

TEST_CASE("bfloat16: all 65536 bit patterns convert as the format defines them and round to nearest even") {
  check_16_bits(DType::bfloat16, bfloat16_value, 0x7f7f);
}

TEST_CASE("arrays know their sizes and names, and refuse what does not fit") {
  CHECK(size_of(DType::float16) == 2);
  CHECK(size_of(DType::bfloat16) == 2);
  CHECK(size_of(DType::float32) == 4);
  CHECK(size_of(DType::float64) == 8);
  CHECK(size_of(DType::int32) == 4);
  CHECK(name_of(DType::bfloat16) == "bfloat16"s);
  CHECK(Array{DType::float32, {3, 16384, 64}, {}}.shape_text() == "[3, 16384, 64]");
  CHECK(Array{DType::float32, {}, {}}.size() == 1);
  CHECK(Array{DType::float32, {std::int64_t{1} << 62, std::int64_t{1} << 62, 0}, {}}.size() == 0);
  const Array labels = make_array<double>(DType::int32, {3}, std::vector<double>{-1, 2147483647, 2.5});
  CHECK(values_of(labels) == std::vector<double>{-1, 2147483647, 2});
  CHECK_THROWS_AS(static_cast<void>(make_array<double>(DType::int32, {1}, std::vector<double>{3e9})),
                  MisfitError);
  CHECK_THROWS_AS(static_cast<void>(make_array<float>(DType::int32, {1}, std::vector<float>{kNaN})),
                  MisfitError);
  CHECK_THROWS_AS(static_cast<void>(make_array<float>(DType::float32, {2}, std::vector<float>{1})),
                  MisfitError);
  std::vector<float> two(2);
  CHECK_THROWS_AS(convert<float>(labels, 2, two), MisfitError);
  CHECK_THROWS_AS(convert<float>(labels, -1, two), MisfitError);
  convert<float>(labels, 1, two);
  CHECK(two[1] == 2);
}

TEST_CASE("NaN and infinities are counted in every format") {
  const std::vector<float> values{0, kNaN, kInfinity, -kInfinity, 1, -kNaN, 65504};
  for (const DType dtype : {DType::float16, DType::bfloat16, DType::float32, DType::float64})
    CHECK(count_non_finite(make_array<float>(dtype, {7}, values)) == 4);
  CHECK(count_non_finite(make_array<float>(DType::int32, {1}, std::vector<float>{-1})) == 0);
}

TEST_CASE("npy: every type and rank is written aligned and read back") {
  const TempFolder folder;
  for (const DType dtype : {DType::float16, DType::float32, DType::float64, DType::int32})
    for (const auto& shape :
         std::vector<std::vector<std::int64_t>>{{}, {0}, {5}, {2, 0, 3}, {3, 4}, {2, 3, 4, 5}}) {
      const Array array = filled(dtype, shape);
      write_npy(folder / "a.npy", array);
      check_same(read_npy(folder / "a.npy"), array);
      const std::string text = read_text(folder / "a.npy");
      check_same(parse_npy(bytes_of(text), "a"), array);
      CHECK((text.size() - array.bytes.size()) % 64 == 0);
      CHECK(text[text.size() - array.bytes.size() - 1] == '\n');
    }
  const Array widened = filled(DType::bfloat16, {4});
  write_npy(folder / "a.npy", widened);
  CHECK(read_npy(folder / "a.npy").dtype == DType::float32);
  CHECK(values_of(read_npy(folder / "a.npy")) == values_of(widened));
}

TEST_CASE("npy: versions 1, 2 and 3 and the spellings that NumPy takes are read") {
  const std::string four(4, '\1');
  for (const char version : {'\1', '\2', '\3'})
    CHECK(parse_npy(bytes_of(npy_of("<f4", "(1,)", four, version)), "a").size() == 1);
  for (const char* descr : {"<f4", "=f4", "|f4", "f4"})
    CHECK(parse_npy(bytes_of(npy_of(descr, "(1, 1)", four)), "a").dtype == DType::float32);
  CHECK(parse_npy(bytes_of(npy_of("<f4", "()", four)), "a").shape.empty());
  CHECK(parse_npy(bytes_of(npy_of("<f4", "(1L,)", four)), "a").size() == 1);
  CHECK(parse_npy(bytes_of(npy("{\"shape\":(1,),\"fortran_order\":False,\"descr\":\"<i4\"}", four)), "a")
            .dtype == DType::int32);
  // Fortran order is C order if at most one axis is longer than 1.
  CHECK(parse_npy(bytes_of(npy_of("<f2", "(2,)", four, 1, "True")), "a").size() == 2);
  CHECK(parse_npy(bytes_of(npy_of("<f2", "(1, 2, 1)", four, 1, "True")), "a").size() == 2);
}

TEST_CASE("npy: everything else is refused with exit status 2 and the file's name") {
  const std::string four(4, '\1');
  const auto with_version = [&](char major, char minor) {
    std::string text = npy_of("<f4", "(1,)", four);
    text[6] = major;
    text[7] = minor;
    return text;
  };
  struct Case {
    const char* what;
    std::string text;
    const char* part;
  };
  const std::vector<Case> cases{
      {"empty", "", "expected a .npy array"},
      {"magic", "PK\3\4 something else", "expected a .npy array"},
      {"magic alone", "\x93NUMPY", "found a file of 6 bytes"},
      {"version 2 cut short", "\x93NUMPY\2\0\1\1"s, "found a file of 10 bytes"},
      {"version 0", with_version(0, 0), "found 0.0"},
      {"version 4", with_version(4, 0), "found 4.0"},
      {"version 1.1", with_version(1, 1), "found 1.1"},
      {"header beyond the file", "\x93NUMPY\1\0\xff\xff{'descr'"s, "found a length of 65535"},
      {"header of 4 GB", "\x93NUMPY\2\0\xff\xff\xff\xff{'descr'"s, "found a length of 4294967295"},
      {"no header", npy("", four), "found a length of 0"},
      {"Fortran order", npy_of("<f2", "(2, 1, 2)", std::string(8, 'x'), 1, "True"), "found Fortran order"},
      {"big-endian", npy_of(">f4", "(1,)", four), "expected little-endian elements, found '>f4'"},
      {"objects", npy_of("|O", "(1,)", four), "Python objects"},
      {"int64", npy_of("<i8", "(1,)", four + four), "found '<i8'"},
      {"bool", npy_of("|b1", "(4,)", four), "found '|b1'"},
      {"float128", npy_of("<f16", "(1,)", four), "found '<f16'"},
      {"no type", npy_of("", "(1,)", four), "found ''"},
      {"structured", npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", four),
       "structured"},
      {"truncated", npy_of("<f4", "(2,)", four),
       "expected 8 bytes of elements for shape [2] of float32, found 4"},
      {"trailing", npy_of("<f4", "(1,)", four + "x"),
       "expected 4 bytes of elements for shape [1] of float32, found 5"},
      {"2^60 elements", npy_of("<f4", "(1152921504606846976,)", four), "expected 4611686018427387904 bytes"},
      {"product out of range", npy_of("<f4", "(4294967296, 4294967296)", four), "more than 2^63"},
      {"hidden by a zero", npy_of("<f4", "(4294967296, 0, 4294967296)", ""), "more than 2^63"},
      {"extent out of range", npy_of("<f4", "(99999999999999999999,)", four), "no extent"},
      {"negative", npy_of("<f4", "(-1,)", four), "no extent"},
      {"not a tuple", npy_of("<f4", "(1)", four), "not a tuple"},
      {"list", npy_of("<f4", "[1]", four), "no '('"},
      {"33 axes",
       npy_of(
           "<f4",
           "(" + std::string(99, ' ') +
               [] {
                 std::string ones;
                 for (int i = 0; i < 33; ++i) ones += "1,";
                 return ones;
               }() +
               ")",
           four),
       "more than 32 axes"},
      {"empty dict", npy("{}", four), "lacks"},
      {"no shape", npy("{'descr': '<f4', 'fortran_order': False}", four), "lacks"},
      {"shape twice", npy("{'shape': (1,), 'shape': (1,)}", four), "comes twice"},
      {"unknown key", npy("{'answer': 42}", four), "'answer'"},
      {"no dict", npy("hello", four), "no '{'"},
      {"quote", npy("{'descr", four), "not closed"},
      {"after the dict", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x", four),
       "after the closing"},
      {"no value", npy("{'descr': '<f4', 'fortran_order': ", four), "neither True nor False"},
      {"open tuple", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,", four), "no extent"},
      {"yes", npy_of("<f4", "(1,)", four, 1, "yes"), "neither True nor False"},
      {"control characters", npy("{'\x1b[31m\n': 1}", four), "\\x1b[31m\\x0a"}};
  const TempFolder folder;
  for (const Case& one : cases) {
    const auto& text = one.text;
    const auto& part = one.part;
    CAPTURE(one.what);
    check_refused([&] { static_cast<void>(parse_npy(bytes_of(text), "some/q.npy")); }, 2,
                  {"some/q.npy: ", part});
    // The file reader reads the header first; it must refuse alike.
    const fs::path path = folder / "case.npy";
    write_text(path, text);
    check_refused([&] { static_cast<void>(read_npy(path)); }, 2, {path.string(), part});
  }
  check_refused([&] { static_cast<void>(read_npy(folder / "absent.npy")); }, 2,
                {(folder / "absent.npy").string(), "expected a .npy array, found no such file"});
  check_refused([&] { static_cast<void>(read_npy(folder.path)); }, 2,
                {folder.path.string(), "found a folder"});
  check_refused([&] { write_npy(folder / "none" / "a.npy", filled(DType::float32, {1})); }, 2,
                {"cannot be written"});
  check_refused(
      [&] {
        write_npy(folder / "a.npy", Array{DType::float32, {2}, {}});
      },
      3, {"does not fit 0 bytes"});
}

TEST_CASE("a header that promises much allocates nothing") {
  const std::string four(4, '\1');
  const auto refused = [](auto parse, const std::string& text) {
    return is_refused_without_memory([&] { static_cast<void>(parse(bytes_of(text), "a")); });
  };
  CHECK(refused(parse_npy, npy_of("<f4", "(1152921504606846976,)", four)));
  CHECK(refused(parse_npy, npy_of("<f4", "(1073741824,)", four)));
  CHECK(refused(parse_npy, "\x93NUMPY\2\0\xff\xff\xff\xff{'descr'"s));
  auto members = npz_members(true);
  members[0].declared = 0xfffffff0U;
  CHECK(refused(parse_npz, zip(members)));
  members[0].declared_compressed = 0xfffffff0U;
  CHECK(refused(parse_npz, zip(members)));
  members = npz_members(false);
  members[1].declared = members[1].declared_compressed = 0xfffffff0U;
  CHECK(refused(parse_npz, zip(members)));
  // An end record that announces 2^60 members in a directory of 2^60 bytes (zip64).
  const std::string end64 = "PK\6\6" + little(44, 8) + little(45, 2) + little(45, 2) + little(0, 8) +
                            little(std::uint64_t{1} << 60, 8) + little(std::uint64_t{1} << 60, 8) +
                            little(0, 8) + little(0, 8);
  CHECK(refused(parse_npz, end64 + "PK\6\7" + little(0, 4) + little(0, 8) + little(1, 4) + "PK\5\6" +
                               little(0, 4) + little(0xffff, 2) + little(0xffff, 2) + little(0xffffffff, 4) +
                               little(0xffffffff, 4) + little(0, 2)));
  CHECK(refused(parse_npz, "PK\5\6" + little(0, 4) + little(0xffff, 2) + little(0xffff, 2) +
                               little(0xfffffff, 4) + little(0, 4) + little(0, 2)));
  CHECK(refused(parse_safetensors, little(~std::uint64_t{0}, 8) + "{}"));
  CHECK(refused(parse_safetensors, safetensors(R"({"q": {"dtype": "F32", "shape": [1152921504606846976],
                                                  "data_offsets": [0, 4611686018427387904]}})",
                                               "")));
  CHECK(refused(parse_safetensors, safetensors(std::string(1 << 20, '['), "")));
}

TEST_CASE("a dump folder is taken back with all it says, for every type") {
  for (const DType dtype : {DType::float16, DType::bfloat16, DType::float32, DType::float64})
    for (const std::int64_t batch : {0, 1, 2}) {
      const TempFolder folder;
      Dump dump = small_dump(dtype);
      dump.has_batch_axis = batch > 0;
      if (batch == 2) {
        dump.q = filled(dtype, {2, 4, 5, 3});
        dump.k = filled(dtype, {2, 2, 6, 3});
        dump.v = filled(dtype, {2, 2, 6, 7});
      }
      dump.causal = batch == 1;
      dump.source = "a test \"of\" quotes";
      dump.head_names = {"layer 1 head 6", "layer -1 head 0", "some head", "layer 01 head 2"};
      dump.tokens = {"a", "", "\n", "é", "\"", "\\"};
      write_dump(folder / "dump", dump);
      const Dump again = read_dump(folder / "dump");
      CHECK(again.has_batch_axis == dump.has_batch_axis);
      CHECK(again.batch() == std::max<std::int64_t>(batch, 1));
      CHECK(values_of(again.q) == values_of(dump.q));
      CHECK(values_of(again.k) == values_of(dump.k));
      CHECK(values_of(again.v) == values_of(dump.v));
      CHECK(again.v.shape == dump.v.shape);
      CHECK(again.q.dtype == (dtype == DType::bfloat16 ? DType::float32 : dtype));
      CHECK(again.scale == dump.scale);
      CHECK(again.causal == dump.causal);
      CHECK(again.source == dump.source);
      CHECK(again.head_names == dump.head_names);
      CHECK(again.tokens == dump.tokens);
      const auto meta = nlohmann::json::parse(read_text(folder / "dump" / "meta.json"));
      CHECK(meta["heads"][0] == nlohmann::json{{"layer", 1}, {"head", 6}});
      // Written again without tokens, the folder keeps none.
      dump.tokens.clear();
      write_dump(folder / "dump", dump);
      CHECK(read_dump(folder / "dump").tokens.empty());
    }
}

TEST_CASE("a dump that says only its format has scale 1/sqrt(D) and nothing else") {
  const TempFolder folder;
  write_parts(folder, filled(DType::float32, {1, 2, 16}), filled(DType::float16, {1, 2, 16}),
              filled(DType::float64, {1, 2, 16}));
  const Dump dump = read_dump(folder.path);
  CHECK(dump.scale == 0.25);
  CHECK(!dump.causal);
  CHECK(!dump.has_batch_axis);
  CHECK(dump.head_names.empty());
  CHECK(dump.tokens.empty());
  write_text(folder / "meta.json",
             R"({"format": "muse-dump/1", "scale": null, "heads": null, "future": {"a": [1]}})");
  CHECK(read_dump(folder.path).scale == 0.25);
  write_text(folder / "meta.json", R"({"format": "muse-dump/1", "scale": 2, "shape": [1, 2, 16]})");
  CHECK(read_dump(folder.path).scale == 2);
}

TEST_CASE("meta.json: what is malformed exits with 2, what contradicts the arrays with 3") {
  const TempFolder folder;
  const auto refused = [&](int status, const std::string& meta, const char* part) {
    CAPTURE(meta);
    write_parts(folder, filled(DType::float32, {2, 3, 4}), filled(DType::float32, {1, 5, 4}),
                filled(DType::float32, {1, 5, 4}), meta);
    check_refused([&] { static_cast<void>(read_dump(folder.path)); }, status,
                  {(folder / "meta.json").string(), part});
  };
  const auto with = [](const std::string& rest) { return R"({"format": "muse-dump/1", )" + rest + "}"; };
  refused(2, "", "expected JSON");
  refused(2, "{\"format\": \"muse-dump/1\"", "expected JSON");
  refused(2, "\xff\xfe", "expected JSON");
  refused(2, "[]", "expected a JSON object, found array");
  refused(2, "{}", "\"muse-dump/1\", found null");
  refused(2, R"({"format": 1})", "found 1");
  refused(3, R"({"format": "muse-dump/2"})", "found muse-dump/2");
  refused(2, with(R"("scale": 0)"), "above 0, found 0");
  refused(2, with(R"("scale": -0.125)"), "above 0, found -0.125");
  refused(2, with(R"("scale": 1e999)"), "expected JSON");
  refused(2, with(R"("scale": "big")"), "expected a number");
  refused(2, with(R"("scale": NaN)"), "expected JSON");
  refused(2, with(R"("causal": "yes")"), "expected true or false");
  refused(2, with(R"("source": 1)"), "expected text");
  refused(2, with(R"("tokens": "five")"), "expected a whole number");
  refused(2, with(R"("tokens": -5)"), "expected a whole number");
  refused(2, with(R"("tokens": 18446744073709551615)"), "expected a whole number");
  refused(2, with(R"("dim": 4.5)"), "expected a whole number");
  refused(2, with(R"("heads": 2)"), "expected a list");
  refused(2, with(R"("heads": [1, 2])"), "found 1");
  refused(2, with(R"("heads": [{"layer": 1}, {"layer": 2}])"), "\"heads\"");
  refused(2, with(R"("shape": "all")"), "expected a list");
  refused(2, with(R"("shape": ["heads", 1])"), "expected a list");
  refused(2, with(R"("x": )" + std::string(16, '[') + std::string(16, ']')), "nested at most 16");
  refused(2, with("\"x\": " + std::string(1000000, '[')), "nested at most 16");
  refused(2, with("\"x\": \"" + std::string(5000000, ' ') + "\""), "expected at most 4194304 bytes");
  refused(3, with(R"("tokens": 3)"), "\"tokens\": expected 5 as in k, found 3");
  refused(3, with(R"("dim": 5)"), "\"dim\": expected 4 as in q, found 5");
  refused(3, with(R"("heads": [{"layer": 1, "head": 1}])"), "expected 2 entries");
  refused(3, with(R"("heads": [])"), "found 0");
  refused(3, with(R"("shape": ["batch", "heads", "tokens", "dim"])"), "\"shape\"");
  refused(3, with(R"("shape": [2, 3, 5])"), "expected [2,3,4]");
  refused(3, with(R"("shape": [])"), "expected [2,3,4]");
}

TEST_CASE("tokens.json: one string a key token") {
  const TempFolder folder;
  write_parts(folder, filled(DType::float32, {1, 3, 4}), filled(DType::float32, {1, 2, 4}),
              filled(DType::float32, {1, 2, 4}));
  const auto refused = [&](int status, const std::string& text, const char* part) {
    CAPTURE(text);
    write_text(folder / "tokens.json", text);
    check_refused([&] { static_cast<void>(read_dump(folder.path)); }, status,
                  {(folder / "tokens.json").string(), part});
  };
  refused(3, R"(["a"])", "expected 2 strings as k has tokens, found 1");
  refused(3, R"(["a", "b", "c"])", "expected 2 strings as k has tokens, found more");
  refused(3, "[]", "found 0");
  refused(2, R"(["a", 2])", "token 1");
  refused(2, R"(["a", ["b"]])", "token 1");
  refused(2, R"(["a", {"b": "c"}])", "token 1");
  refused(2, R"({"a": "b"})", "the whole");
  refused(2, R"("ab")", "the whole");
  refused(2, "17", "the whole");
  refused(2, R"(["a", "b")", "expected JSON");
  refused(2, std::string(1000000, '['), "token 0");
  write_text(folder / "tokens.json", R"(["a", "\ud83d\ude00"])");
  CHECK(read_dump(folder.path).tokens == std::vector<std::string>{"a", "\xf0\x9f\x98\x80"});
}

TEST_CASE("q, k and v that do not fit together exit with 3 and name the dump") {
  const TempFolder folder;
  using Shape = std::vector<std::int64_t>;
  const auto refused = [&](int status, const Shape& q, const Shape& k, const Shape& v, const char* part,
                           DType dtype = DType::float32) {
    write_parts(folder, filled(dtype, q), filled(dtype, k), filled(dtype, v));
    CAPTURE(part);
    check_refused([&] { static_cast<void>(read_dump(folder.path)); }, status, {folder.path.string(), part});
  };
  refused(3, {2, 2, 3, 4}, {1, 2, 3, 4}, {1, 2, 3, 4}, "batch entries in q and k");
  refused(3, {2, 2, 3, 4}, {2, 2, 3, 4}, {1, 2, 3, 4}, "batch entries in q and v");
  refused(3, {2, 3, 4}, {2, 3, 5}, {2, 3, 4}, "dimensions in q and k");
  refused(3, {2, 3, 4}, {2, 3, 4}, {2, 4, 4}, "tokens in k and v");
  refused(3, {2, 3, 4}, {2, 3, 4}, {1, 3, 4}, "heads in k and v");
  refused(3, {3, 3, 4}, {2, 3, 4}, {2, 3, 4}, "multiple of the key heads");
  refused(3, {1, 3, 4}, {2, 3, 4}, {2, 3, 4}, "multiple of the key heads");
  refused(3, {0, 3, 4}, {2, 3, 4}, {2, 3, 4}, "q: expected at least one");
  refused(3, {2, 0, 4}, {2, 3, 4}, {2, 3, 4}, "q: expected at least one");
  refused(3, {2, 3, 0}, {2, 3, 0}, {2, 3, 4}, "q: expected at least one");
  refused(3, {2, 3, 4}, {2, 0, 4}, {2, 0, 4}, "k: expected at least one");
  refused(3, {2, 3, 4}, {2, 3, 4}, {2, 3, 0}, "v: expected at least one");
  refused(3, {3, 4}, {3, 4}, {3, 4}, "expected [heads, tokens, dim]");
  refused(3, {1, 1, 1, 3, 4}, {1, 1, 1, 3, 4}, {1, 1, 1, 3, 4}, "expected [heads, tokens, dim]");
  refused(3, {}, {}, {}, "expected [heads, tokens, dim]");
  refused(3, {1, 2, 3, 4}, {2, 3, 4}, {2, 3, 4}, "as many axes");
  refused(2, {2, 3, 4}, {2, 3, 4}, {2, 3, 4}, "expected floating-point", DType::int32);

  Dump dump = small_dump();
  dump.v = filled(DType::float32, {1, 2, 5, 7});
  check_refused([&] { write_dump(folder / "new", dump); }, 3,
                {(folder / "new").string(), "tokens in k and v"});
  CHECK(!fs::exists(folder / "new"));
  dump = small_dump();
  dump.tokens = {"one"};
  check_refused([&] { write_dump(folder / "new", dump); }, 3, {"expected 6 strings"});
  dump = small_dump();
  dump.scale = kNaN;
  check_refused([&] { write_dump(folder / "new", dump); }, 2, {"scale"});
  write_text(folder / "file", "");
  check_refused([&] { write_dump(folder / "file", small_dump()); }, 2, {"expected a folder"});
}

TEST_CASE("NaN and infinities are refused with their number and the place of the first, or kept") {
  const TempFolder folder;
  for (const DType dtype : {DType::float16, DType::float32, DType::float64}) {
    std::vector<float> values(2 * 3 * 5 * 4, 1.0F);
    values[4 + 3] = -kInfinity;  // [0, 0, 1, 3]
    values[60 + 20 + 8 + 1] = kNaN;
    write_parts(folder, filled(dtype, {2, 3, 5, 4}), make_array<float>(dtype, {2, 3, 5, 4}, values),
                filled(dtype, {2, 3, 5, 4}));
    check_refused([&] { static_cast<void>(read_dump(folder.path)); }, 2,
                  {(folder / "k.npy").string(), "found 2 of 120", "-inf at [b, h, n, d] = [0, 0, 1, 3]"});
    values[4 + 3] = 0;
    write_npy(folder / "k.npy", make_array<float>(dtype, {2, 3, 5, 4}, values));
    check_refused([&] { static_cast<void>(read_dump(folder.path)); }, 2,
                  {"found 1 of 120", "nan at [b, h, n, d] = [1, 1, 2, 1]"});
    CHECK(count_non_finite(read_dump(folder.path, NonFinite::keep).k) == 1);
  }
}

TEST_CASE("read_dump says what it understands where there is no dump") {
  const TempFolder folder;
  const auto refused = [&](const fs::path& path, std::initializer_list<std::string_view> parts) {
    check_refused([&] { static_cast<void>(read_dump(path)); }, 2, {path.string(), ".npz or .safetensors"});
    check_refused([&] { static_cast<void>(read_dump(path)); }, 2, parts);
  };
  refused(folder / "absent", {"found nothing there"});
  refused(folder.path, {"found a folder without meta.json"});
  write_text(folder / "x.bin", "");
  refused(folder / "x.bin", {"extension '.bin'"});
  write_text(folder / "q.npy", "");
  refused(folder / "q.npy", {"give its folder"});
  write_text(folder / "meta.json", R"({"format": "muse-dump/1"})");
  refused(folder / "meta.json", {"give its folder"});
  fs::remove(folder / "q.npy");
  check_refused([&] { static_cast<void>(read_dump(folder.path)); }, 2,
                {(folder / "q.npy").string(), "expected a .npy array, found no such file"});
  fs::create_directories(folder / "tokens.json");
}

TEST_CASE("npz: stored and deflated members are read, with meta.json, tokens.json and scale.npy") {
  const Dump expected = small_dump();
  for (const bool is_deflated : {false, true}) {
    auto members = npz_members(is_deflated);
    CHECK(parse_npz(bytes_of(zip(members)), "a.npz").scale == 1 / std::sqrt(3.0));
    members.push_back(
        {"scale.npy", npy_bytes(make_array<double>(DType::float64, {}, std::vector<double>{0.3}))});
    members.push_back({"unrelated.npy", "anything"});
    members.push_back({"tokens.json", R"(["a", "b", "c", "d", "e", "f"])", is_deflated});
    Dump dump = parse_npz(bytes_of(zip(members)), "a.npz");
    CHECK(dump.scale == 0.3);
    CHECK(dump.tokens.back() == "f");
    check_same(dump.q, expected.q);
    check_same(dump.k, expected.k);
    check_same(dump.v, expected.v);
    members.push_back({"meta.json",
                       R"({"format": "muse-dump/1", "causal": true, "source": "npz", "scale": 0.3})",
                       is_deflated});
    const TempFolder folder;
    write_text(folder / "a.NPZ", zip(members));
    dump = read_dump(folder / "a.NPZ");
    CHECK(dump.causal == true);
    CHECK(dump.source == "npz");
  }
}

TEST_CASE("npz: what is broken, hostile or misfit is refused with its exit status") {
  const auto refused = [](int status, const std::string& text,
                          std::initializer_list<std::string_view> parts) {
    check_refused([&] { static_cast<void>(parse_npz(bytes_of(text), "some/a.npz")); }, status,
                  {"some/a.npz"});
    check_refused([&] { static_cast<void>(parse_npz(bytes_of(text), "some/a.npz")); }, status, parts);
  };
  const auto edited = [](bool is_deflated, const std::function<void(ZipMember&)>& edit) {
    auto members = npz_members(is_deflated);
    edit(members[1]);
    return zip(members);
  };
  const auto with = [](const std::string& name, const std::string& content) {
    auto members = npz_members();
    members.push_back({name, content});
    return zip(members);
  };
  refused(2, "", {"a zip archive"});
  refused(2, "\x93NUMPY", {"first bytes PK"});
  refused(2, "PK\3\4 and nothing else", {"cannot be opened"});
  refused(2, zip({}), {"expected members q.npy, k.npy and v.npy", "no members"});
  refused(2, zip({npz_members()[0]}), {"expected members q.npy, k.npy and v.npy", "q.npy"});
  const std::string whole = zip(npz_members());
  for (std::size_t size = 1; size < whole.size(); size += 7)
    refused(2, whole.substr(0, size), {"zip archive"});
  refused(2, with("k.npy", "again"), {"'k.npy' twice"});
  for (const bool is_deflated : {false, true}) {
    refused(2, edited(is_deflated, [](ZipMember& m) { m.crc_error = 1; }), {"k.npy", "sound data", "CRC"});
    refused(2, edited(is_deflated, [](ZipMember& m) { m.flags = 1; }), {"k.npy", "not encrypted"});
    refused(2, edited(is_deflated, [](ZipMember& m) { m.declared = 0x7fffffffU; }),
            {"k.npy", "2147483647 bytes"});
    refused(2, edited(is_deflated, [](ZipMember& m) { m.method = 12; }), {"k.npy", "compression method 12"});
    refused(2, edited(is_deflated, [](ZipMember& m) { m.declared_compressed = 0x7fffffffU; }), {"k.npy"});
  }
  refused(2,
          edited(true, [](ZipMember& m) { m.declared = static_cast<std::uint32_t>(m.content.size()) + 1; }),
          {"k.npy"});
  refused(2,
          edited(true, [](ZipMember& m) { m.declared = static_cast<std::uint32_t>(m.content.size()) - 1; }),
          {"k.npy"});
  refused(2, edited(true, [](ZipMember& m) { m.method = 0; }), {"k.npy"});
  refused(2, edited(false, [](ZipMember& m) { m.method = 8; }), {"k.npy", "sound data"});
  refused(2, edited(false, [](ZipMember& m) { m.content = "no array"; }), {"k.npy", "expected a .npy array"});
  refused(2, with("meta.json", "{"), {"meta.json", "expected JSON"});
  refused(3, with("meta.json", R"({"format": "muse-dump/2"})"), {"meta.json", "muse-dump/2"});
  refused(2, with("meta.json", std::string(5000000, ' ')), {"meta.json", "at most 4194304 bytes"});
  refused(3, with("tokens.json", "[]"), {"tokens.json", "found 0"});
  refused(2, with("scale.npy", npy_of("<f4", "(2,)", std::string(8, '\1'))), {"scale.npy", "one number"});
  refused(2, with("scale.npy", npy_of("<f4", "()", std::string(4, '\0'))), {"scale.npy", "above 0"});
  refused(2, with("scale.npy", npy_of("<f4", "()", "\0\0\x80\x7f"s)), {"scale.npy", "above 0, found inf"});
  auto members = npz_members();
  members.push_back({"scale.npy", npy_bytes(filled(DType::float32, {}, 2))});
  members.push_back({"meta.json", R"({"format": "muse-dump/1", "scale": 3})"});
  refused(3, zip(members), {"same scale", "3 and 2"});
  members = npz_members();
  members[2].content = npy_bytes(filled(DType::float32, {2, 5, 7}));
  refused(3, zip(members), {"tokens in k and v"});
  const TempFolder folder;
  check_refused([&] { static_cast<void>(read_dump(folder / "absent.npz")); }, 2, {"absent.npz"});
  members = npz_members();
  members[0].content =
      npy_bytes(make_array<float>(DType::float32, {1, 1, 3}, std::vector<float>{1, kNaN, 1}));
  members[1].content = members[2].content = npy_bytes(filled(DType::float32, {1, 1, 3}));
  write_text(folder / "a.npz", zip(members));
  check_refused([&] { static_cast<void>(read_dump(folder / "a.npz")); }, 2, {"a.npz: q", "[0, 0, 0, 1]"});
}

TEST_CASE("safetensors: F16, BF16, F32 and F64 are read, and what __metadata__ says") {
  for (const auto& [dtype, name] : {std::pair(DType::float16, "F16"), std::pair(DType::bfloat16, "BF16"),
                                    std::pair(DType::float32, "F32"), std::pair(DType::float64, "F64")}) {
    const Dump expected = small_dump(dtype);
    Dump dump = parse_safetensors(bytes_of(safetensors_of(expected, name)), "a.safetensors");
    check_same(dump.q, expected.q);
    check_same(dump.k, expected.k);
    check_same(dump.v, expected.v);
    CHECK(dump.has_batch_axis);
    CHECK(dump.scale == 1 / std::sqrt(3.0));
    const TempFolder folder;
    write_text(folder / "a.safetensors", safetensors_of(expected, name, [](nlohmann::json& header) {
                 header["__metadata__"] = {
                     {"format", "pt"}, {"scale", "0.3"}, {"causal", "True"}, {"source", "s"}, {"other", "x"}};
                 header["bias"] = {{"dtype", "I64"}, {"shape", {1, 2}}, {"data_offsets", {0, 16}}};
               }));
    dump = read_dump(folder / "a.safetensors");
    CHECK(dump.scale == 0.3);
    CHECK(dump.causal == true);
    CHECK(dump.source == "s");
  }
}

TEST_CASE("safetensors: what is broken, hostile or misfit is refused with its exit status") {
  const auto refused = [](int status, const std::string& text, const char* part) {
    CAPTURE(part);
    check_refused([&] { static_cast<void>(parse_safetensors(bytes_of(text), "some/a.safetensors")); }, status,
                  {"some/a.safetensors", part});
  };
  const auto edited = [](const std::function<void(nlohmann::json&)>& edit) {
    return safetensors_of(small_dump(), "F32", edit);
  };
  using nlohmann::json;
  refused(2, "", "of 0 bytes");
  refused(2, "1234567", "of 7 bytes");
  refused(2, little(3, 8) + "{}", "found a length of 3");
  refused(2, little(~std::uint64_t{0}, 8) + "{}", "found a length of 18446744073709551615");
  refused(2, little(100'000'001, 8) + std::string(100'000'001, ' '), "at most 100000000 bytes");
  refused(2, safetensors("{", ""), "expected JSON");
  refused(2, safetensors("", ""), "expected JSON");
  refused(2, safetensors("[1]", ""), "found array");
  refused(2, safetensors("{}", ""), "tensors named q, k and v, found none");
  refused(2, safetensors(R"({"weight": {}, "bias": {}})", ""), "found weight, bias");
  refused(2, safetensors(R"({"q": {}, "q": {}})", ""), "'q' twice");
  refused(2, safetensors(R"({"q": 1})", ""), "expected an object");
  refused(2, safetensors("{\"q\": " + std::string(100000, '['), ""), "nested at most 16");
  refused(2, safetensors("{\"x\": " + std::string(100000, '['), ""), "nested at most 16");
  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += "{\"q\":";
  refused(2, safetensors(deep, ""), "nested at most 16");
  refused(2, edited([](json& h) { h["k"]["dtype"] = "I32"; }),
          "k: \"dtype\": expected F16, BF16, F32 or F64");
  refused(2, edited([](json& h) { h["k"].erase("dtype"); }), "\"dtype\"");
  refused(2, edited([](json& h) { h["k"]["shape"] = "all"; }), "\"shape\"");
  refused(2, edited([](json& h) { h["k"]["shape"] = {1, 2, -6, 3}; }), "\"shape\"");
  refused(2, edited([](json& h) { h["k"]["shape"] = {1.5}; }), "\"shape\"");
  refused(2, edited([](json& h) { h["k"]["shape"] = {~std::uint64_t{0}}; }), "\"shape\"");
  refused(2, edited([](json& h) { h["k"]["shape"] = std::vector<int>(33, 1); }), "\"shape\"");
  refused(2, edited([](json& h) {
            h["k"]["shape"] = {std::int64_t{1} << 32, std::int64_t{1} << 32};
          }),
          "2^63");
  refused(2, edited([](json& h) { h["k"]["shape"] = {1, 2, 5, 3}; }), "expected 120 bytes");
  refused(2, edited([](json& h) { h["k"].erase("data_offsets"); }), "\"data_offsets\"");
  refused(2, edited([](json& h) { h["k"]["data_offsets"] = {0}; }), "\"data_offsets\"");
  refused(2, edited([](json& h) { h["k"]["data_offsets"] = {144, 0}; }), "\"data_offsets\"");
  refused(2, edited([](json& h) { h["k"]["data_offsets"] = {-4, 140}; }), "\"data_offsets\"");
  refused(2, edited([](json& h) { h["v"]["data_offsets"] = {400, 400 + 336}; }), "\"data_offsets\"");
  refused(2, edited([](json& h) {
            h["v"]["data_offsets"] = {std::int64_t{1} << 62, std::int64_t{1} << 62};
          }),
          "\"data_offsets\"");
  const std::string whole = safetensors_of(small_dump(), "F32");
  refused(2, whole.substr(0, whole.size() - 1), "\"data_offsets\"");
  refused(3, edited([](json& h) { h["k"]["shape"] = {1, 1, 12, 3}; }), "heads in k and v");
  refused(3, edited([](json& h) { h["k"]["shape"] = {36}; }), "as many axes");
  refused(3, edited([](json& h) { h["__metadata__"]["format"] = "muse-dump/2"; }), "found muse-dump/2");
  refused(2, edited([](json& h) { h["__metadata__"] = "x"; }), "expected an object of text");
  refused(2, edited([](json& h) { h["__metadata__"]["scale"] = 0.3; }), "expected text");
  refused(2, edited([](json& h) { h["__metadata__"]["scale"] = "0.3x"; }), "expected a number");
  refused(2, edited([](json& h) { h["__metadata__"]["scale"] = "inf"; }), "above 0");
  refused(2, edited([](json& h) { h["__metadata__"]["scale"] = "nan"; }), "above 0");
  refused(2, edited([](json& h) { h["__metadata__"]["scale"] = "-1"; }), "above 0");
  refused(2, edited([](json& h) { h["__metadata__"]["causal"] = "1"; }), "expected true or false");
}
