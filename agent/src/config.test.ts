import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { RefusedField } from "@coppice/proto/kit/failure";
import { isFailure } from "@coppice/proto/kit/failure";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type ConfigSources, formatConfig, loadConfig } from "./config.ts";

let folder: string;
let file: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "coppice-config-"));
  file = join(folder, "agent.yaml");
});

afterEach(async () => {
  await rm(folder, { recursive: true });
});

function problemsOf(sources: ConfigSources): readonly RefusedField[] {
  try {
    loadConfig(sources);
  } catch (error) {
    if (isFailure(error, "CONFIGURATION_INVALID")) return error.fields;
    throw error;
  }
  return [];
}

describe("the agent's settings", () => {
  test("come from the command line before the environment, before the file", async () => {
    await writeFile(file, "data_dir: /from/file\nlog_level: debug\n");
    const env = {
      COPPICE_AGENT_CONFIG: file,
      COPPICE_AGENT_DATA_DIR: "/from/environment",
      COPPICE_AGENT_LOG_LEVEL: "",
    };
    const fromEnvironment = loadConfig({ options: {}, env });
    expect(fromEnvironment).toEqual({ dataDirectory: "/from/environment", logLevel: "debug" });
    expect(loadConfig({ options: { dataDir: "/from/option" }, env }).dataDirectory).toBe("/from/option");
    expect(problemsOf({ options: {}, env: { COPPICE_AGENT_CONFIG: "" } })).toEqual([]);
  });

  test("are printed as the file would hold them", async () => {
    await writeFile(file, "data_dir: /a\nlog_level: warn\n");
    expect(formatConfig(loadConfig({ options: { config: file }, env: {} }))).toBe("data_dir: /a\nlog_level: warn\n");
  });

  test("are refused with every problem at once, each with its key, value and what was expected", async () => {
    await writeFile(file, "data_dir: relative\nretries: 3\n");
    const env = { COPPICE_AGENT_LOG_LEVEL: "loud", COPPICE_AGENT_LOGLEVEL: "info" };
    expect(problemsOf({ options: { config: file }, env })).toEqual([
      { field: `${file}: retries`, expected: "one of data_dir, log_level" },
      {
        field: "COPPICE_AGENT_LOGLEVEL",
        expected: "one of COPPICE_AGENT_CONFIG, COPPICE_AGENT_DATA_DIR, COPPICE_AGENT_LOG_LEVEL",
      },
      { field: `${file}: data_dir`, expected: "an absolute path", value: '"relative"' },
      {
        field: "COPPICE_AGENT_LOG_LEVEL",
        expected: "one of trace, debug, info, warn, error, fatal, silent",
        value: '"loud"',
      },
    ]);
  });

  test("are refused when the named file is not there or is no YAML", async () => {
    expect(problemsOf({ options: { config: file }, env: {} })).toEqual([
      { field: file, expected: "a readable file (ENOENT)" },
    ]);
    await writeFile(file, "- a\n- b\n");
    expect(problemsOf({ options: { config: file }, env: {} })).toHaveLength(1);
    await writeFile(file, "a: [");
    expect(problemsOf({ options: { config: file }, env: {} })).toHaveLength(1);
  });
});
