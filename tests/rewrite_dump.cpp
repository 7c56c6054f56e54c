// Reads what NumPy wrote and writes it again, for tests/check_npy_with_numpy.py.
//   rewrite_dump npy  in.npy out.npy
//   rewrite_dump dump in     out-folder
#include <cstdio>
#include <string_view>

#include "muse/check.h"
#include "muse/tensor_io.h"

int main(int argc, char** argv) {
  const std::string_view kind = argc == 4 ? argv[1] : "";
  try {
    if (kind == "npy")
      muse::write_npy(argv[3], muse::read_npy(argv[2]));
    else if (kind == "dump")
      muse::write_dump(argv[3], muse::read_dump(argv[2]));
    else
      throw muse::UsageError("usage: rewrite_dump npy|dump IN OUT");
  } catch (const muse::Error& error) {
    static_cast<void>(std::fprintf(stderr, "%s\n", error.what()));
    return static_cast<int>(error.status());
  }
  return 0;
}
