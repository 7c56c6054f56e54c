// Where the approximation errs: by query, by pair of clusters, by block.
#include "views/error_parts.h"
#include "views/views.h"

namespace muse::viewer {
namespace {

class ErrorView : public View {
 public:
  [[nodiscard]] std::string_view name() const override { return "error"; }
  [[nodiscard]] std::string_view title() const override { return "Error map"; }
  [[nodiscard]] std::string_view help() const override {
    return "where the approximation errs: by query, by pair of clusters of a block, by block, with the worst "
           "offenders";
  }
  [[nodiscard]] bool follows_filter() const override { return true; }
  [[nodiscard]] std::shared_ptr<const ViewContent> prepare(Analysis& analysis, const ViewState& state,
                                                           Task& task) const override {
    switch (state.view.per) {
      case ErrorPer::pair:
        return pair_error_content(analysis, state, task);
      case ErrorPer::block:
        return block_error_content(analysis, state, task);
      case ErrorPer::query:
        break;
    }
    return query_error_content(analysis, state, task);
  }
};

}  // namespace

const View& error_view() {
  static const ErrorView view;
  return view;
}

}  // namespace muse::viewer
