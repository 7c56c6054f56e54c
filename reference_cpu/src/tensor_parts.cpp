#include "tensor_parts.h"

#include <fmt/format.h>

#include <new>
#include <stdexcept>

#include "muse/check.h"

namespace muse::detail {
namespace {

constexpr int kDeepestJson = 16;
constexpr std::size_t kLongestExcerpt = 100;

}  // namespace

InputFile::InputFile(const std::filesystem::path& path, std::string_view expected) : name_(path.string()) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status))
    throw FileError(fmt::format("{}: expected {}, found no such file", name_, expected));
  if (!std::filesystem::is_regular_file(status))
    throw FileError(fmt::format("{}: expected {}, found {}", name_, expected,
                                std::filesystem::is_directory(status) ? "a folder" : "no regular file"));
  size_ = std::filesystem::file_size(path, error);
  if (!error) stream_.open(path, std::ios::binary);
  if (error || !stream_)
    throw FileError(fmt::format("{}: expected {}, found a file that cannot be opened; may you read it?",
                                name_, expected));
}

void InputFile::read(std::span<std::byte> out) {
  stream_.read(reinterpret_cast<char*>(out.data()), static_cast<std::streamsize>(out.size()));
  if (!stream_)
    throw FileError(
        fmt::format("{}: expected {} more bytes, found {}; did the file change while it was read?", name_,
                    out.size(), stream_.gcount()));
}

std::vector<std::byte> allocate(std::uint64_t size, std::string_view name) {
  try {
    return std::vector<std::byte>(size);
  } catch (const std::bad_alloc&) {
  } catch (const std::length_error&) {
  }
  throw FileError(fmt::format("{}: expected a file that fits the memory, found {} bytes", name, size));
}

std::vector<std::byte> read_file(const std::filesystem::path& path, std::string_view expected) {
  InputFile file(path, expected);
  std::vector<std::byte> bytes = allocate(file.size(), path.string());
  file.read(bytes);
  return bytes;
}

void write_file(const std::filesystem::path& path, std::string_view head, std::span<const std::byte> body) {
  std::ofstream file(path, std::ios::binary);
  file.write(head.data(), static_cast<std::streamsize>(head.size()));
  file.write(reinterpret_cast<const char*>(body.data()), static_cast<std::streamsize>(body.size()));
  file.close();
  if (!file)
    throw FileError(
        fmt::format("{}: cannot be written; is the folder there and the disk not full?", path.string()));
}

std::string excerpt(std::string_view text) {
  std::string shown;
  for (const char c : text.substr(0, kLongestExcerpt)) {
    const auto code = static_cast<unsigned char>(c);
    shown += code >= 0x20 && code < 0x7f ? std::string(1, c) : fmt::format("\\x{:02x}", code);
  }
  return text.size() > kLongestExcerpt ? shown + "..." : shown;
}

nlohmann::json parse_json(std::string_view text, std::string_view name,
                          const nlohmann::json::parser_callback_t& watch) {
  using Event = nlohmann::json::parse_event_t;
  const auto watch_depth = [&](int depth, Event event, nlohmann::json& parsed) {
    // `depth` counts the containers around this one.
    if ((event == Event::object_start || event == Event::array_start) && depth >= kDeepestJson)
      throw FileError(
          fmt::format("{}: expected JSON nested at most {} deep, found more", name, kDeepestJson));
    return !watch || watch(depth, event, parsed);
  };
  try {
    return nlohmann::json::parse(text.begin(), text.end(), watch_depth);
  } catch (const nlohmann::json::exception& error) {
    // Drop the library's own "[json.exception.…] ".
    std::string_view found = error.what();
    found.remove_prefix(std::min(found.find(']') + 2, found.size()));
    throw FileError(fmt::format("{}: expected JSON, found {}", name, excerpt(found)));
  }
}

}  // namespace muse::detail
