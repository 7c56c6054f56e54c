// Whatever the bytes, parse_npz throws an Error or returns a dump that fits together.
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    muse_fuzz::check_dump(muse::parse_npz(muse_fuzz::bytes_of(data, size), "fuzz.npz"));
  } catch (const muse::Error& error) {
    muse_fuzz::check_message(error);
  }
  return 0;
}
