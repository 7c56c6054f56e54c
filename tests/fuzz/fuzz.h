// What the fuzz targets demand of everything that a reader accepts or refuses.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string_view>
#include <utility>

#include "muse/check.h"
#include "muse/tensor_io.h"

// libFuzzer calls it; so does replay.cpp.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace muse_fuzz {

inline void demand(bool condition, const char* what) {
  if (condition) return;
  static_cast<void>(std::fprintf(stderr, "broken promise: %s\n", what));
  std::abort();
}

inline std::span<const std::byte> bytes_of(const std::uint8_t* data, std::size_t size) {
  return std::as_bytes(std::span(data, size));
}

inline void check_array(const muse::Array& array) {
  for (const std::int64_t extent : array.shape) demand(extent >= 0, "no extent is negative");
  demand(array.bytes.size() == static_cast<std::size_t>(array.size()) * muse::size_of(array.dtype),
         "an array has the bytes that its shape demands");
  demand(muse::count_non_finite(array) <= array.size(), "no more elements are NaN than there are");
  double last = 0;
  if (array.size() > 0) muse::convert<double>(array, array.size() - 1, {&last, 1});
}

inline void check_dump(const muse::Dump& dump) {
  for (const muse::Array* array : {&dump.q, &dump.k, &dump.v}) {
    check_array(*array);
    demand(array->shape.size() == 4 && array->size() > 0, "q, k and v have four axes and no zero extent");
    demand(array->dtype != muse::DType::int32, "q, k and v are floating-point");
  }
  demand(dump.k.shape[0] == dump.batch() && dump.v.shape[0] == dump.batch(), "one batch size");
  demand(dump.heads_q() % dump.heads_kv() == 0 && dump.v.shape[1] == dump.heads_kv(), "heads fit");
  demand(dump.k.shape[3] == dump.dim() && dump.v.shape[2] == dump.tokens_k(), "dimensions and tokens fit");
  demand(std::isfinite(dump.scale) && dump.scale > 0, "scale is finite and positive");
  demand(dump.tokens.empty() || static_cast<std::int64_t>(dump.tokens.size()) == dump.tokens_k(),
         "one string a token");
  demand(dump.head_names.empty() || static_cast<std::int64_t>(dump.head_names.size()) == dump.heads_q(),
         "one name a head");
}

inline void check_message(const muse::Error& error) {
  const std::string_view message = error.what();
  demand(message.starts_with("fuzz"), "a message begins with the file's name");
  demand(message.size() < 1000, "a message is short");
  demand(error.status() == muse::ExitStatus::file_problem || error.status() == muse::ExitStatus::misfit,
         "a reader's exit status is 2 or 3");
  for (const char c : message) demand(c >= ' ' && c <= '~', "a message is printable");
}

}  // namespace muse_fuzz
