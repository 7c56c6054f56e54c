// Whatever the text, meta.json and tokens.json of a dump are refused with an Error or read into a dump that
// fits.
#include "fuzz.h"
#include "tensor_parts.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto text = muse::detail::as_text(muse_fuzz::bytes_of(data, size));
  const auto array = [] { return muse::Array{muse::DType::float16, {2, 3, 4}, std::vector<std::byte>(48)}; };
  try {
    muse::detail::DumpParts parts{array(), array(), array(),
                                  muse::detail::parse_meta(text, "fuzz/meta.json")};
    muse_fuzz::check_dump(muse::detail::assemble(std::move(parts), "fuzz"));
  } catch (const muse::Error& error) {
    muse_fuzz::check_message(error);
  }
  try {
    muse::Dump dump = muse::detail::assemble({array(), array(), array(), {}}, "fuzz");
    muse::detail::add_tokens(dump, text, "fuzz/tokens.json");
    muse_fuzz::check_dump(dump);
  } catch (const muse::Error& error) {
    muse_fuzz::check_message(error);
  }
  return 0;
}
