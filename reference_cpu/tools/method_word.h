// Methods as a person writes them: exact, local, muse, each perhaps with settings behind colons.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "muse/config.h"

namespace muse::tools {

enum class Method { exact, muse, local };

/// One method with its parameters for every head.
struct MethodSpec {
  std::string word;  ///< as written: "muse", "muse:clusters=S/16:32:512:retrieve=8"
  Method method = Method::muse;
  ConfigSet configs = {};
  std::string device = {}, dtype = {};  ///< settings of these names, where they are taken; empty: none
};

/// Parses METHOD[:OPTION=VALUE]… over the parameters `base`. A colon begins a setting only where OPTION=
/// follows it. UsageError for unknown methods and options, and for a mode whose exact attention is another
/// than that of `base`. With `own_device` each method may also say where it runs:
/// muse:device=cuda:dtype=float16.
[[nodiscard]] MethodSpec parse_method(std::string_view word, const ConfigSet& base, bool own_device = false);

/// Parses a comma list of them. A comma that no method follows belongs to the value before it:
/// retrieve=1,2,8.
[[nodiscard]] std::vector<MethodSpec> parse_methods(std::string_view list, const ConfigSet& base,
                                                    bool own_device = false);

/// How to write them, for help.
inline constexpr char kMethodType[] = "METHOD";
inline constexpr char kMethodHelp[] =
    "exact, muse, or local (the diagonal blocks alone), with settings of its own behind colons, such as "
    "muse:retrieve=8:order=monopole";

}  // namespace muse::tools
