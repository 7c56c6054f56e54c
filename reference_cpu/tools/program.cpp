#include "program.h"

#include <cstdio>
#include <exception>
#include <new>
#include <system_error>

#include "interrupt.h"
#include "muse/check.h"
#include "version.h"

namespace muse::tools {
namespace {

constexpr int kDefectStatus = 70;  // as sysexits.h has it: an error of the program itself

}  // namespace

void add_version(CLI::App& app) {
  app.set_version_flag("--version", [] {
    std::string text = version_text();
    text.pop_back();  // CLI11 ends the line itself
    return text;
  });
  app.get_option("--version")->description("print version, commit, compiler and libraries, and exit");
}

std::optional<int> parse_line(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(ExitStatus::wrong_use);
  }
  return std::nullopt;
}

int run_program(const char* name, const char* if_memory_is_short, const std::function<int()>& work) {
  const auto complain = [&](const std::string& message, int status) {
    std::fprintf(stderr, "%s: %s\n", name, message.c_str());
    return status;
  };
  constexpr int kFileProblem = static_cast<int>(ExitStatus::file_problem);
  try {
    return work();
  } catch (const Error& error) {
    return complain(error.what(), static_cast<int>(error.status()));
  } catch (const Cancelled&) {
    return complain("interrupted; nothing was written", kInterruptedStatus);
  } catch (const std::bad_alloc&) {
    return complain(std::string("not enough memory for this; ") + if_memory_is_short, kFileProblem);
  } catch (const std::system_error& error) {
    return complain(error.what(), kFileProblem);
  } catch (const std::exception& error) {
    return complain(std::string("unexpected, a defect of ") + name + ": " + error.what(), kDefectStatus);
  }
}

}  // namespace muse::tools
