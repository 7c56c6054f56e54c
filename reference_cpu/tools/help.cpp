#include "help.h"

#include <memory>
#include <sstream>
#include <utility>

#include "table.h"

namespace muse::tools {
namespace {

constexpr std::size_t kColumns = 100;
constexpr std::size_t kNameColumns = 34;

// `text` in lines of `width` columns, cut between words.
std::vector<std::string> wrapped(const std::string& text, std::size_t width) {
  std::vector<std::string> lines(1);
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    if (!lines.back().empty() && width_of(lines.back()) + 1 + width_of(word) > width) lines.emplace_back();
    lines.back().append(lines.back().empty() ? "" : " ").append(word);
  }
  return lines;
}

// A name, and its description beside it or below it.
std::string entry(const std::string& name, const std::string& description) {
  std::string text = "  " + name;
  bool beside = width_of(text) + 1 < kNameColumns;
  for (const std::string& line : wrapped(description, kColumns - kNameColumns)) {
    text += beside ? std::string(kNameColumns - width_of(text), ' ') : "\n" + std::string(kNameColumns, ' ');
    text += line;
    beside = false;
  }
  return text + "\n";
}

class ProjectHelp : public CLI::Formatter {
 public:
  std::string make_option(const CLI::Option* option, bool is_positional) const override {
    return entry(make_option_name(option, is_positional) + make_option_opts(option),
                 option->get_description());
  }
  std::string make_option_opts(const CLI::Option* option) const override {
    return option->get_type_size() == 0 ? "" : " " + option->get_type_name();
  }
  std::string make_description(const CLI::App* app) const override {
    std::string text;
    for (const std::string& line : wrapped(app->get_description(), kColumns)) text += line + "\n";
    return text;
  }
  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override {
    return CLI::detail::find_and_replace(CLI::Formatter::make_help(app, std::move(name), mode), "\n\n\n",
                                         "\n\n");
  }
  std::string make_subcommand(const CLI::App* command) const override {
    const std::string paragraph = command->get_description();
    return entry(command->get_name(), paragraph.substr(0, paragraph.find(". ")));
  }
};

}  // namespace

void use_project_help(CLI::App& app) {
  app.formatter(std::make_shared<ProjectHelp>());
  app.set_help_flag("-h,--help", "print this help and exit");
}

std::string described(const std::string& help, const std::string& unit, const std::string& default_value) {
  std::string facts = unit;
  if (!default_value.empty()) facts.append(facts.empty() ? "" : "; ").append("default " + default_value);
  return facts.empty() ? help : help + " [" + facts + "]";
}

CLI::Validator unnamed(const CLI::Validator& check) {
  CLI::Validator copy = check;
  return copy.description("");
}

CLI::App* add_command(CLI::App& app, const std::string& name, const std::string& paragraph,
                      const std::string& example) {
  CLI::App* command = app.add_subcommand(name, paragraph);
  command->footer("Example:\n  " + example);
  return command;
}

CLI::Option* add_json_option(CLI::App& command, std::string& destination) {
  return command.add_option("--json", destination, "write JSON to FILE, or to standard output alone for -")
      ->type_name("FILE|-");
}

}  // namespace muse::tools
