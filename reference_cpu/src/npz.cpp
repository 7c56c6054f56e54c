// NumPy's .npz: a zip archive whose members are .npy files, stored or deflated.
#include <fmt/format.h>
#include <zip.h>

#include <algorithm>
#include <limits>
#include <memory>

#include <utility>

#include "muse/check.h"
#include "tensor_parts.h"

namespace muse {
namespace {

constexpr std::uint64_t kLargestDeflateRatio = 1032;  // 258 bytes of output for 2 bits of input
constexpr std::uint64_t kSlack = 65536;               // for tiny members
constexpr std::size_t kFirstChunk = std::size_t{1} << 20;

struct CloseArchive {
  void operator()(zip_t* archive) const { zip_discard(archive); }
};
struct CloseMember {
  void operator()(zip_file_t* member) const { zip_fclose(member); }
};

class Archive {
 public:
  Archive(std::span<const std::byte> bytes, std::string_view name) : name_(name), file_size_(bytes.size()) {
    if (!detail::as_text(bytes).starts_with("PK"))
      fail("a zip archive (first bytes PK)",
           fmt::format("\"{}\"", detail::excerpt(detail::as_text(bytes).substr(0, 4))));
    zip_error_t error;
    zip_error_init(&error);
    zip_source_t* source = zip_source_buffer_create(bytes.data(), bytes.size(), 0, &error);
    if (source != nullptr) archive_.reset(zip_open_from_source(source, ZIP_RDONLY, &error));
    if (archive_ == nullptr) {
      const std::string why = zip_error_strerror(&error);
      zip_error_fini(&error);
      zip_source_free(source);
      fail("a zip archive", fmt::format("one that cannot be opened ({}); is the file cut short?", why));
    }
    zip_error_fini(&error);
    index_members();
  }

  // The member's bytes, at most `limit` of them, or nothing if there is no such member.
  std::optional<std::vector<std::byte>> read(
      const std::string& member, std::uint64_t limit = std::numeric_limits<std::int64_t>::max()) const {
    zip_stat_t stat;
    const zip_int64_t index = index_of(member);
    if (index < 0) return std::nullopt;
    if (zip_stat_index(archive_.get(), static_cast<zip_uint64_t>(index), 0, &stat) != 0)
      fail(member, "a readable member", zip_strerror(archive_.get()));
    constexpr zip_uint64_t kNeeded =
        ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD;
    if ((stat.valid & kNeeded) != kNeeded) fail(member, "a member with sizes and a method", "none");
    if (stat.encryption_method != ZIP_EM_NONE)
      fail(member, "a member that is not encrypted", "an encrypted one");
    if (stat.comp_method != ZIP_CM_STORE && stat.comp_method != ZIP_CM_DEFLATE)
      fail(member, "a stored or deflated member", fmt::format("compression method {}", stat.comp_method));
    // Believe the declared sizes only as far as the file's own size and the method allow.
    const std::uint64_t justified =
        stat.comp_method == ZIP_CM_STORE
            ? stat.comp_size
            : std::min(stat.comp_size, file_size_) * kLargestDeflateRatio + kSlack;
    if (stat.comp_size > file_size_ || stat.size > std::min(justified, limit))
      fail(member,
           fmt::format("at most {} bytes", std::min({justified, limit, file_size_ * kLargestDeflateRatio})),
           fmt::format("a declared size of {} bytes, {} compressed, in a file of {}", stat.size,
                       stat.comp_size, file_size_));
    return inflate(member, static_cast<zip_uint64_t>(index), stat.size);
  }

  [[noreturn]] void fail(std::string_view expected, std::string_view found) const {
    throw FileError(fmt::format("{}: expected {}, found {}", name_, expected, found));
  }
  [[noreturn]] void fail(std::string_view member, std::string_view expected, std::string_view found) const {
    throw FileError(fmt::format("{}: {}: expected {}, found {}", name_, member, expected, found));
  }

  [[nodiscard]] std::string members_text() const {
    std::string text;
    for (const auto& [member, index] : members_) {
      if (!text.empty()) text += ", ";
      text += detail::excerpt(member);
    }
    return text.empty() ? "no members" : detail::excerpt(text);
  }

 private:
  void index_members() {
    const zip_int64_t count = zip_get_num_entries(archive_.get(), 0);
    for (zip_int64_t i = 0; i < count; ++i) {
      const char* member = zip_get_name(archive_.get(), static_cast<zip_uint64_t>(i), ZIP_FL_ENC_RAW);
      if (member == nullptr) fail("members with names", zip_strerror(archive_.get()));
      if (!members_.emplace(member, i).second)
        fail("each member once", fmt::format("'{}' twice", detail::excerpt(member)));
    }
  }

  [[nodiscard]] zip_int64_t index_of(const std::string& member) const {
    const auto found = members_.find(member);
    return found == members_.end() ? -1 : found->second;
  }

  std::vector<std::byte> inflate(const std::string& member, zip_uint64_t index,
                                 std::uint64_t declared) const {
    const std::unique_ptr<zip_file_t, CloseMember> file(zip_fopen_index(archive_.get(), index, 0));
    if (file == nullptr) fail(member, "a readable member", zip_strerror(archive_.get()));
    // Grow with what really comes out; read one byte beyond the declared size, so that the end (and with it
    // the checksum) is reached.
    std::vector<std::byte> bytes;
    std::uint64_t size = 0;
    while (true) {
      if (size == bytes.size())
        bytes.resize(std::min<std::uint64_t>(declared + 1, std::max<std::uint64_t>(2 * size, kFirstChunk)));
      const zip_int64_t got = zip_fread(file.get(), bytes.data() + size, bytes.size() - size);
      if (got < 0) fail(member, "sound data", zip_file_strerror(file.get()));
      if (got == 0) break;
      size += static_cast<std::uint64_t>(got);
      if (size > declared) break;
    }
    if (size != declared)
      fail(member, fmt::format("{} bytes", declared),
           fmt::format("{}{}", size > declared ? "at least " : "", size));
    bytes.resize(size);
    return bytes;
  }

  std::string name_;
  std::uint64_t file_size_;
  std::unique_ptr<zip_t, CloseArchive> archive_;
  std::map<std::string, zip_int64_t> members_;
};

}  // namespace

Dump parse_npz(std::span<const std::byte> bytes, std::string_view name) {
  const Archive archive(bytes, name);
  const auto member_name = [&](std::string_view member) { return fmt::format("{}: {}", name, member); };
  const auto read_array = [&](const std::string& member) {
    auto content = archive.read(member);
    if (!content)
      archive.fail("members q.npy, k.npy and v.npy (numpy.savez(path, q=q, k=k, v=v))",
                   archive.members_text());
    return detail::take_npy(std::move(*content), member_name(member));
  };
  detail::DumpParts parts;
  parts.meta.name = name;
  // Read the small members first: they cost little and refuse a misfit early.
  if (const auto meta = archive.read("meta.json", detail::kLargestMeta))
    parts.meta = detail::parse_meta(detail::as_text(*meta), member_name("meta.json"));

  if (auto scale = archive.read("scale.npy")) {
    const Array array = detail::take_npy(std::move(*scale), member_name("scale.npy"));
    if (array.size() != 1) archive.fail("scale.npy", "one number", array.shape_text());
    double value = 0;
    convert<double>(array, 0, {&value, 1});
    detail::check_scale(value, member_name("scale.npy"));
    MUSE_REQUIRE(!parts.meta.scale || *parts.meta.scale == value, name,
                 ": expected the same scale in meta.json and scale.npy, found ", *parts.meta.scale, " and ",
                 value);
    parts.meta.scale = value;
  }
  parts.q = read_array("q.npy");
  parts.k = read_array("k.npy");
  parts.v = read_array("v.npy");
  Dump dump = detail::assemble(std::move(parts), name);
  if (const auto tokens = archive.read("tokens.json"))
    detail::add_tokens(dump, detail::as_text(*tokens), member_name("tokens.json"));
  return dump;
}

}  // namespace muse
