// The blocks of the hierarchy as the settings cut them: a picture that needs no computation.
#pragma once

#include "views/view_parts.h"

namespace muse::viewer {

/// Shown while the errors of the blocks are computed.
[[nodiscard]] std::shared_ptr<const ViewContent> block_outline_content(
    std::shared_ptr<const DumpSession> session, const ViewState& state);

}  // namespace muse::viewer
