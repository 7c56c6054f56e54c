// The command `muse-viewer`.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <new>
#include <optional>
#include <system_error>

#include "app/command_line.h"
#include "app/export.h"
#include "app/viewer.h"
#include "muse/check.h"
#include "tools/help.h"
#include "tools/interrupt.h"
#include "tools/progress_bar.h"
#include "tools/version.h"

namespace muse::viewer {
namespace {

constexpr int kDefectStatus = 70;  // as sysexits.h has it: an error of the program itself

// A task whose stages are drawn as bars on a terminal, and that Ctrl-C cancels.
class BarTask : public Task {
 public:
  Progress& stage(const std::string& name, double units) override {
    tools::throw_if_interrupted();
    bar_.reset();
    bar_.emplace(1);
    return bar_->start(name, 1, units);
  }
  void finish() { bar_.reset(); }

 private:
  std::optional<tools::ProgressBar> bar_;
};

int complain(const char* message, int status) {
  std::fprintf(stderr, "muse-viewer: %s\n", message);
  return status;
}

int run_command(int argc, char** argv) {
  CLI::App app(
      "Shows what Multipole Semantic Attention does on dumped queries, keys and values, and where it errs: "
      "clusters, "
      "attention maps, errors, the blocks of the hierarchy, one query's profile, and what accuracy costs.",
      "muse-viewer");
  tools::use_project_help(app);
  app.set_version_flag("--version", [] {
    std::string text = tools::version_text();
    text.pop_back();  // CLI11 ends the line itself
    return text;
  });
  app.get_option("--version")->description("print version, commit, compiler and libraries, and exit");
  app.footer(
      "Examples:\n  muse-viewer DUMP\n  muse-viewer DUMP --export errors.png --view error --heads all "
      "--clusters S/16:32:512 "
      "--retrieve 8\n"
      "Exit status: 0 done, 1 wrong use, 2 file problem, 3 shapes or versions that do not fit, 130 "
      "interrupted.");
  CommandLine line;
  line.add_to(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(ExitStatus::wrong_use);
  }
  line.use_threads();
  const View& view = view_named(line.view());
  if (line.export_path().empty()) return run_viewer(line);
  if (line.dump().empty()) throw UsageError("expected a dump to export from; see --help");
  const render::FigureOptions options = line.figure_options(view.default_size());
  const auto session = std::make_shared<const DumpSession>(line.dump());
  const ViewState state = line.state(*session);
  Analysis analysis(session);
  BarTask task;
  export_view(line.export_path(), view, analysis, state, options, task);
  task.finish();
  return 0;
}

// Turns every exception into a message and an exit status, as `muse` does.
int run(int argc, char** argv) {
  try {
    return run_command(argc, argv);
  } catch (const Error& error) {
    return complain(error.what(), static_cast<int>(error.status()));
  } catch (const Cancelled&) {
    return complain("interrupted; nothing was written", tools::kInterruptedStatus);
  } catch (const std::bad_alloc&) {
    return complain("not enough memory for this; try fewer --tokens",
                    static_cast<int>(ExitStatus::file_problem));
  } catch (const std::system_error& error) {
    return complain(error.what(), static_cast<int>(ExitStatus::file_problem));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "muse-viewer: unexpected, a defect of muse-viewer: %s\n", error.what());
    return kDefectStatus;
  }
}

}  // namespace
}  // namespace muse::viewer

int main(int argc, char** argv) {
  muse::tools::catch_interrupts();
  return muse::viewer::run(argc, argv);
}
