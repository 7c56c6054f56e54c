// Whatever the bytes, parse_npy throws an Error or returns an array that keeps its own promises.
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    muse_fuzz::check_array(muse::parse_npy(muse_fuzz::bytes_of(data, size), "fuzz.npy"));
  } catch (const muse::Error& error) {
    muse_fuzz::check_message(error);
  }
  return 0;
}
