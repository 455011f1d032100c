import { readFileSync } from "node:fs";
import { isAbsolute, resolve } from "node:path";
import { fail, type RefusedField } from "@coppice/proto/kit/failure";
import { parse, stringify } from "yaml";

const logLevels = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;

type LogLevel = (typeof logLevels)[number];

/** The agent's settings, resolved once. */
export interface Config {
  /** Folder with the enrolment and the journal; one for each agent on a machine. */
  readonly dataDirectory: string;
  readonly logLevel: LogLevel;
}

/** Where settings come from; options of the command line win over the environment, that over the file. */
export interface ConfigSources {
  readonly options: { readonly config?: string | undefined; readonly dataDir?: string | undefined };
  readonly env: Readonly<Record<string, string | undefined>>;
}

interface Setting {
  readonly key: keyof Config;
  /** Its name in the file; in the environment it is COPPICE_AGENT_ and this in upper case. */
  readonly name: string;
  readonly initial: string;
  readonly expected: string;
  readonly isValid: (value: unknown) => boolean;
}

const defaultFile = "/etc/coppice/agent.yaml";
const environmentPrefix = "COPPICE_AGENT_";
const settings: readonly Setting[] = [
  {
    key: "dataDirectory",
    name: "data_dir",
    initial: "/var/lib/coppice-agent",
    expected: "an absolute path",
    isValid: (value) => typeof value === "string" && isAbsolute(value),
  },
  {
    key: "logLevel",
    name: "log_level",
    initial: "info",
    expected: `one of ${logLevels.join(", ")}`,
    isValid: (value) => logLevels.some((level) => level === value),
  },
];

/** Reads and checks all settings. Fails with CONFIGURATION_INVALID, whose fields are all problems at once. */
export function loadConfig({ options, env }: ConfigSources): Config {
  const problems: RefusedField[] = [];
  const file = options.config ?? (env[`${environmentPrefix}CONFIG`] || undefined);
  const fromFile = readSettings(file, problems);
  const known = new Set(["CONFIG", ...settings.map(({ name }) => name.toUpperCase())]);
  for (const variable of Object.keys(env)) {
    if (!variable.startsWith(environmentPrefix) || known.has(variable.slice(environmentPrefix.length))) continue;
    problems.push({
      field: variable,
      expected: `one of ${[...known].map((name) => environmentPrefix + name).join(", ")}`,
    });
  }
  const values = new Map<string, unknown>();
  for (const { key, name, initial, expected, isValid } of settings) {
    const variable = environmentPrefix + name.toUpperCase();
    // A path on the command line is meant from where the person stands.
    const option = key === "dataDirectory" && options.dataDir !== undefined ? resolve(options.dataDir) : undefined;
    const candidates: [string, unknown][] = [
      ["--data-dir", option],
      // An empty variable is how an environment file leaves a setting out.
      [variable, env[variable] || undefined],
      [`${file ?? defaultFile}: ${name}`, fromFile[name]],
      ["default", initial],
    ];
    const [field, value] = candidates.find(([, given]) => given !== undefined) ?? ["default", initial];
    if (!isValid(value)) problems.push({ field, expected, value: JSON.stringify(value) });
    values.set(key, value);
  }
  if (problems.length > 0) {
    const lines = problems.map(({ field, value, expected }) =>
      value === undefined ? `${field}: expected ${expected}` : `${field} is ${value}: expected ${expected}`,
    );
    fail("CONFIGURATION_INVALID", lines.join("; "), { fields: problems });
  }
  return { dataDirectory: String(values.get("dataDirectory")), logLevel: values.get("logLevel") as LogLevel };
}

/** The settings as the file would hold them. The agent's settings hold no secret. */
export function formatConfig(config: Config): string {
  return stringify(Object.fromEntries(settings.map(({ key, name }) => [name, config[key]])));
}

function readSettings(file: string | undefined, problems: RefusedField[]): Readonly<Record<string, unknown>> {
  const path = file ?? defaultFile;
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : String(error);
    if (file === undefined && code === "ENOENT") return {};
    problems.push({ field: path, expected: `a readable file (${code})` });
    return {};
  }
  let content: unknown;
  try {
    content = parse(text) ?? {};
  } catch (error) {
    problems.push({
      field: path,
      expected: `YAML (${error instanceof Error ? error.message.split("\n")[0] : "unreadable"})`,
    });
    return {};
  }
  if (typeof content !== "object" || content === null || Array.isArray(content)) {
    problems.push({ field: path, expected: "settings, one `name: value` a line" });
    return {};
  }
  const names = settings.map(({ name }) => name);
  for (const name of Object.keys(content)) {
    if (!names.includes(name)) problems.push({ field: `${path}: ${name}`, expected: `one of ${names.join(", ")}` });
  }
  return { ...content };
}
