// The command `muse-viewer`.
#include <CLI/CLI.hpp>
#include <optional>

#include "app/command_line.h"
#include "app/export.h"
#include "app/viewer.h"
#include "muse/check.h"
#include "tools/help.h"
#include "tools/interrupt.h"
#include "tools/program.h"
#include "tools/progress_bar.h"

namespace muse::viewer {
namespace {

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

int run_command(int argc, char** argv) {
  CLI::App app(
      "Shows what Multipole Semantic Attention does on dumped queries, keys and values, and where it errs: "
      "clusters, "
      "attention maps, errors, the blocks of the hierarchy, one query's profile, and what accuracy costs.",
      "muse-viewer");
  tools::use_project_help(app);
  tools::add_version(app);
  app.footer(
      "Examples:\n  muse-viewer DUMP\n  muse-viewer DUMP --export errors.png --view error --heads all "
      "--clusters S/16:32:512 "
      "--retrieve 8\n"
      "Exit status: 0 done, 1 wrong use, 2 file problem, 3 shapes or versions that do not fit, 130 "
      "interrupted.");
  CommandLine line;
  line.add_to(app);
  if (const std::optional<int> status = tools::parse_line(app, argc, argv)) return *status;
  line.use_threads();
  const View& view = view_named(line.view());
  if (line.export_path().empty()) return run_viewer(line);
  if (line.dump().empty()) throw UsageError("expected a dump to export from; see --help");
  const render::FigureOptions options = line.figure_options(view.default_size());
  const auto session = std::make_shared<const DumpSession>(line.dump());
  const ViewState state = line.state(*session);
  for (const Slot& slot : state.slots)
    if (slot.on_gpu()) tools::require_gpu();
  Analysis analysis(session);
  BarTask task;
  export_view(line.export_path(), view, analysis, state, options, task);
  task.finish();
  return 0;
}

}  // namespace
}  // namespace muse::viewer

int main(int argc, char** argv) {
  muse::tools::catch_interrupts();
  return muse::tools::run_program("muse-viewer", "try fewer --tokens",
                                  [&] { return muse::viewer::run_command(argc, argv); });
}
