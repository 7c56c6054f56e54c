#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "muse/check.h"
#include "muse/config.h"

using namespace muse;

TEST_CASE("the rule S/16:32:512 is min(512, max(32, S/16)), and never more than S") {
  Config config;
  set_option(config, "clusters", "S/16:32:512");
  const ClusterRule rule = config.clusters_q.at(0);
  CHECK(rule(16) == 16);
  CHECK(rule(100) == 32);
  CHECK(rule(1024) == 64);
  CHECK(rule(8191) == 511);
  CHECK(rule(65536) == 512);
  CHECK(config.clusters_k == config.clusters_q);
}

TEST_CASE("a plain S/8 is not clamped, a number is itself, up to S") {
  Config config;
  set_option(config, "clusters-k", "S/8");
  CHECK(config.clusters_k.at(0)(65536) == 8192);
  CHECK(config.clusters_k.at(0)(4) == 1);
  set_option(config, "clusters-k", "64");
  CHECK(config.clusters_k.at(3)(65536) == 64);
  CHECK(config.clusters_k.at(3)(10) == 10);
}

TEST_CASE("a comma list gives each level its own value and repeats the last") {
  Config config;
  set_option(config, "retrieve", "1,2,8");
  CHECK(config.retrieve.at(0) == 1);
  CHECK(config.retrieve.at(2) == 8);
  CHECK(config.retrieve.at(9) == 8);
  set_option(config, "clusters-q", "32,S/16:32:512");
  CHECK(config.clusters_q.at(0)(1024) == 32);
  CHECK(config.clusters_q.at(1)(2048) == 128);
}

TEST_CASE("every option's text is taken back as it was given") {
  Config config;
  for (const auto& [name, text] :
       std::initializer_list<std::pair<const char*, const char*>>{{"mode", "causal-shared"},
                                                                  {"order", "dipole_value"},
                                                                  {"cluster-by", "balanced"},
                                                                  {"metric", "key-covariance"},
                                                                  {"clusters-q", "S/16:32:512"},
                                                                  {"clusters-k", "64,S/4"},
                                                                  {"retrieve", "4,8"},
                                                                  {"block", "77"},
                                                                  {"passes", "3"},
                                                                  {"sample", "4"},
                                                                  {"retrieve-by", "mean-weight"},
                                                                  {"cluster-window", "4096"},
                                                                  {"seed", "12"}}) {
    set_option(config, name, text);
    CHECK(get_option(config, name) == text);
  }
  Config again;
  for (const OptionInfo& option : option_table())
    set_option(again, option.name, get_option(config, option.name));
  CHECK(again == config);
}

TEST_CASE("the table's defaults are the defaults") {
  Config config;
  for (const OptionInfo& option : option_table()) {
    CHECK(get_option(config, option.name) == option.default_value);
    set_option(config, option.name, option.default_value);
  }
  CHECK(config == Config{});
}

TEST_CASE("wrong text is refused") {
  Config config;
  for (const auto& option :
       std::initializer_list<std::pair<const char*, const char*>>{{"mode", "sideways"},
                                                                  {"clusters", "0"},
                                                                  {"clusters", ""},
                                                                  {"clusters", "S/0"},
                                                                  {"clusters", "S/16:9"},
                                                                  {"clusters", "S/16:9:4"},
                                                                  {"clusters", "64,"},
                                                                  {"retrieve", "-1"},
                                                                  {"retrieve", "1.5"},
                                                                  {"block", "0"},
                                                                  {"block", "99999999999999999999"},
                                                                  {"passes", "x"},
                                                                  {"seed", "-1"},
                                                                  {"nonsense", "1"}}) {
    CAPTURE(option.first);
    CAPTURE(option.second);
    CHECK_THROWS_AS(set_option(config, option.first, option.second), UsageError);
  }
}

TEST_CASE("a config file keeps common options and the heads that have their own") {
  const auto folder = std::filesystem::temp_directory_path() / "muse_test_config";
  std::filesystem::create_directories(folder);
  const std::string path = (folder / "config.json").string();
  ConfigSet configs;
  set_option(configs.common, "block", "512");
  configs.heads[3] = configs.common;
  set_option(configs.heads[3], "clusters", "S/8:16:64");
  write_config(path, configs, {{"max_error", 0.01}});
  const ConfigSet again = read_config(path);
  CHECK(again.common == configs.common);
  CHECK(again.for_head(3) == configs.heads[3]);
  CHECK(again.for_head(0) == configs.common);

  const auto write = [&](const char* text) { std::ofstream(path) << text; };
  write("{");
  CHECK_THROWS_AS(static_cast<void>(read_config(path)), FileError);
  write(R"({"format": "muse-config/9"})");
  CHECK_THROWS_AS(static_cast<void>(read_config(path)), MisfitError);
  write(R"({"format": "muse-config/1", "common": {"block": 0}})");
  CHECK_THROWS_AS(static_cast<void>(read_config(path)), FileError);
  write(R"({"format": "muse-config/1", "heads": {"x": {}}})");
  CHECK_THROWS_AS(static_cast<void>(read_config(path)), FileError);
  CHECK_THROWS_AS(static_cast<void>(read_config((folder / "absent.json").string())), FileError);
  std::filesystem::remove_all(folder);
}
