// Reading and writing attention dumps. docs/formats.md specifies every format.
// Files are untrusted: each reader throws FileError (malformed, exit 2) or MisfitError (shapes or versions
// that do not fit, exit 3) with a message that names the file, what was expected and what was found; it never
// crashes and never allocates more than the file's own size justifies.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "muse/tensor.h"

namespace muse {

/// One attention layer's q, k, v for a batch of heads, and what is known of them.
struct Dump {
  Array q;                              ///< [batch, Hq, Nq, D]; files with [heads, tokens, dim] get batch = 1
  Array k;                              ///< [batch, Hkv, Nk, D], Hq a multiple of Hkv
  Array v;                              ///< [batch, Hkv, Nk, Dv]
  double scale = 1;                     ///< s of the softmax; 1/sqrt(D) where the file says nothing
  bool has_batch_axis = false;          ///< whether the file had the batch axis
  std::optional<bool> causal;           ///< how the model used the head, if the file says
  std::string source;                   ///< where the tensors come from, free text
  std::vector<std::string> head_names;  ///< one a query head ("layer 1 head 6"), or empty
  std::vector<std::string> tokens;      ///< text of each token, or empty

  [[nodiscard]] std::int64_t batch() const { return q.shape[0]; }
  [[nodiscard]] std::int64_t heads_q() const { return q.shape[1]; }
  [[nodiscard]] std::int64_t heads_kv() const { return k.shape[1]; }
  [[nodiscard]] std::int64_t tokens_q() const { return q.shape[2]; }
  [[nodiscard]] std::int64_t tokens_k() const { return k.shape[2]; }
  [[nodiscard]] std::int64_t dim() const { return q.shape[3]; }
  [[nodiscard]] std::int64_t dim_v() const { return v.shape[3]; }
};

/// What to do with NaN and infinities in q, k, v.
enum class NonFinite { refuse, keep };

/// Reads a dump: a folder (meta.json, q.npy, k.npy, v.npy), an .npz or a .safetensors file.
[[nodiscard]] Dump read_dump(const std::filesystem::path& path, NonFinite non_finite = NonFinite::refuse);

/// Writes a dump folder; creates it if needed.
void write_dump(const std::filesystem::path& folder, const Dump& dump);

/// Elements of a floating-point array that are NaN or infinite.
[[nodiscard]] std::int64_t count_non_finite(const Array& array);

[[nodiscard]] Array read_npy(const std::filesystem::path& path);
void write_npy(const std::filesystem::path& path, const Array& array);

// The parsers under the readers, on bytes in memory; `name` stands in messages.
[[nodiscard]] Array parse_npy(std::span<const std::byte> bytes, std::string_view name);
[[nodiscard]] Dump parse_npz(std::span<const std::byte> bytes, std::string_view name);
[[nodiscard]] Dump parse_safetensors(std::span<const std::byte> bytes, std::string_view name);

}  // namespace muse
