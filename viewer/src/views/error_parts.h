// The three kinds of content of the error view.
#pragma once

#include "views/view_parts.h"

namespace muse::viewer {

[[nodiscard]] std::shared_ptr<const ViewContent> query_error_content(Analysis& analysis,
                                                                     const ViewState& state, Task& task);
[[nodiscard]] std::shared_ptr<const ViewContent> pair_error_content(Analysis& analysis,
                                                                    const ViewState& state, Task& task);
[[nodiscard]] std::shared_ptr<const ViewContent> block_error_content(Analysis& analysis,
                                                                     const ViewState& state, Task& task);

}  // namespace muse::viewer
