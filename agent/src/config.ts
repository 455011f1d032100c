import { isAbsolute, resolve } from "node:path";
import { logLevelSetting, type logLevels, resolveSettings, type Setting } from "@coppice/proto/kit/settings";
import { stringify } from "yaml";

/** The agent's settings, resolved once. */
export interface Config {
  /** Folder with the enrolment and the journal; one for each agent on a machine. */
  readonly dataDirectory: string;
  readonly logLevel: (typeof logLevels)[number];
}

/** Where settings come from; options of the command line win over the environment, that over the file. */
export interface ConfigSources {
  readonly options: { readonly config?: string | undefined; readonly dataDir?: string | undefined };
  readonly env: Readonly<Record<string, string | undefined>>;
}

const settings = {
  data_dir: {
    initial: "/var/lib/coppice-agent",
    expected: "an absolute path",
    read: (text) => (isAbsolute(text) ? text : undefined),
  } satisfies Setting<string>,
  log_level: logLevelSetting,
};

/** Reads and checks all settings. Fails with CONFIGURATION_INVALID, whose fields are all problems at once. */
export function loadConfig({ options, env }: ConfigSources): Config {
  const { data_dir, log_level } = resolveSettings(settings, {
    // A path on the command line is meant from where the person stands.
    options: { data_dir: options.dataDir && resolve(options.dataDir) },
    env,
    prefix: "COPPICE_AGENT_",
    ownsPrefix: true,
    file: options.config,
    defaultFile: "/etc/coppice/agent.yaml",
  });
  return { dataDirectory: data_dir, logLevel: log_level };
}

/** The settings as the file would hold them. The agent's settings hold no secret. */
export function formatConfig({ dataDirectory, logLevel }: Config): string {
  const shown: Record<keyof typeof settings, string> = { data_dir: dataDirectory, log_level: logLevel };
  return stringify(shown);
}
