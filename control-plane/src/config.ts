import { readFileSync } from "node:fs";
import { isAbsolute, resolve } from "node:path";
import { parseDuration } from "@coppice/proto/kit/duration";
import { fail, isFailure, type RefusedField } from "@coppice/proto/kit/failure";
import { parse, stringify } from "yaml";

const logLevels = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;

/** An address to listen on. */
export interface ListenAddress {
  readonly host: string;
  /** 0 lets the system choose. */
  readonly port: number;
}

/** The control plane's settings, resolved once. */
export interface Config {
  /** Folder of the master key and the embedded catalog. */
  readonly dataDirectory: string;
  readonly listen: ListenAddress;
  /** Where agents and people reach it, as https://host:port; empty means at the listen address. */
  readonly addresses: readonly string[];
  /** A PostgreSQL 15 or newer for the catalog; undefined means the embedded one. */
  readonly databaseUrl: string | undefined;
  /** 32 bytes in base64; undefined means the file in the data folder. */
  readonly masterKey: string | undefined;
  readonly logLevel: (typeof logLevels)[number];
  /** Pause between heartbeats of an agent's session. */
  readonly heartbeatMs: number;
}

/** Options of the command line, as they were given. */
export interface ConfigOptions {
  readonly config?: string | undefined;
  readonly dataDir?: string | undefined;
  readonly listen?: string | undefined;
}

/** Where settings come from: the command line wins over the environment, that over the file. */
export interface ConfigSources {
  readonly options: ConfigOptions;
  readonly env: Readonly<Record<string, string | undefined>>;
}

interface Setting<Value> {
  readonly initial: Value;
  readonly expected: string;
  readonly secret?: true;
  /** Undefined when the text is not what is expected. */
  readonly read: (text: string) => Value | undefined;
}

const settings = {
  data_dir: {
    initial: "/var/lib/coppice",
    expected: "an absolute path",
    read: (text) => (isAbsolute(text) ? text : undefined),
  } satisfies Setting<string>,
  listen: {
    initial: { host: "127.0.0.1", port: 7443 },
    expected: "ADDRESS:PORT, such as 127.0.0.1:7443 or [::]:7443",
    read: readListen,
  } satisfies Setting<ListenAddress>,
  addresses: {
    initial: [],
    expected: "https://HOST:PORT, several separated by commas",
    read: readAddresses,
  } satisfies Setting<readonly string[]>,
  database_url: {
    initial: undefined,
    expected: "postgres://USER:PASSWORD@HOST:PORT/DATABASE",
    secret: true,
    read: (text) => (/^postgres(ql)?:$/.test(URL.parse(text)?.protocol ?? "") ? text : undefined),
  } satisfies Setting<string | undefined>,
  master_key: {
    initial: undefined,
    expected: "32 bytes in base64, as `head -c 32 /dev/urandom | base64` makes them",
    secret: true,
    read: (text) => (/^[A-Za-z0-9+/]{43}=$/.test(text) ? text : undefined),
  } satisfies Setting<string | undefined>,
  log_level: {
    initial: "info",
    expected: `one of ${logLevels.join(", ")}`,
    read: (text) => logLevels.find((level) => level === text),
  } satisfies Setting<(typeof logLevels)[number]>,
  heartbeat_interval: {
    initial: 10_000,
    expected: "a duration from 100ms to 5m",
    read: readHeartbeat,
  } satisfies Setting<number>,
};
type Name = keyof typeof settings;

const defaultFile = "/etc/coppice/control.yaml";
/** The environment is shared with the other programs on a machine, so that foreign names in it are not refused. */
const environmentPrefix = "COPPICE_";

/** Reads and checks all settings. Fails with CONFIGURATION_INVALID, whose fields are all problems at once. */
export function loadConfig({ options, env }: ConfigSources): Config {
  const problems: RefusedField[] = [];
  const file = options.config ?? env["COPPICE_CONFIG"];
  const fromFile = readSettings(file, problems);
  function resolveSetting<Value>(name: Name, setting: Setting<Value>, option?: string): Value {
    const variable = environmentPrefix + name.toUpperCase();
    const candidates: [string, unknown][] = [
      [`--${name.replace("_", "-")}`, option],
      // An empty variable is how an environment file leaves a setting out.
      [variable, env[variable] || undefined],
      [`${file ?? defaultFile}: ${name}`, fromFile[name]],
    ];
    const given = candidates.find(([, value]) => value !== undefined && value !== null);
    if (given === undefined) return setting.initial;
    const [field, value] = given;
    const text = Array.isArray(value) ? value.join(",") : String(value);
    const read = setting.read(text);
    if (read !== undefined) return read;
    problems.push({ field, expected: setting.expected, ...(setting.secret ? {} : { value: JSON.stringify(text) }) });
    return setting.initial;
  }
  const config: Config = {
    // A path on the command line is meant from where the person stands.
    dataDirectory: resolveSetting("data_dir", settings.data_dir, options.dataDir && resolve(options.dataDir)),
    listen: resolveSetting("listen", settings.listen, options.listen),
    addresses: resolveSetting("addresses", settings.addresses),
    databaseUrl: resolveSetting<string | undefined>("database_url", settings.database_url),
    masterKey: resolveSetting<string | undefined>("master_key", settings.master_key),
    logLevel: resolveSetting("log_level", settings.log_level),
    heartbeatMs: resolveSetting("heartbeat_interval", settings.heartbeat_interval),
  };
  if (problems.length > 0) {
    const lines = problems.map(({ field, value, expected }) =>
      value === undefined ? `${field}: expected ${expected}` : `${field} is ${value}: expected ${expected}`,
    );
    fail("CONFIGURATION_INVALID", lines.join("; "), { fields: problems });
  }
  return config;
}

/** The settings as the file would hold them, secrets hidden. */
export function formatConfig(config: Config): string {
  const { host, port } = config.listen;
  const shown: Record<Name, unknown> = {
    data_dir: config.dataDirectory,
    listen: `${host.includes(":") ? `[${host}]` : host}:${port}`,
    addresses: config.addresses,
    database_url: config.databaseUrl === undefined ? "embedded" : "(hidden)",
    master_key: config.masterKey === undefined ? `${config.dataDirectory}/master.key` : "(hidden)",
    log_level: config.logLevel,
    heartbeat_interval: `${config.heartbeatMs}ms`,
  };
  return stringify(shown);
}

function readListen(text: string): ListenAddress | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  return host === undefined || port > 65_535 ? undefined : { host, port };
}

function readAddresses(text: string): readonly string[] | undefined {
  const addresses = text.split(",").map((part) => part.trim());
  const good = addresses.every((address) => /^https:\/\/[^/?#@\s]+$/.test(address) && URL.canParse(address));
  return good ? addresses : undefined;
}

function readHeartbeat(text: string): number | undefined {
  try {
    const ms = parseDuration(text);
    return ms >= 100 && ms <= 300_000 ? ms : undefined;
  } catch (error) {
    if (isFailure(error, "INVALID_FIELD")) return undefined;
    throw error;
  }
}

function readSettings(file: string | undefined, problems: RefusedField[]): Readonly<Record<string, unknown>> {
  const path = file ?? defaultFile;
  let content: unknown;
  try {
    content = parse(readFileSync(path, "utf8")) ?? {};
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "unreadable";
    if (file === undefined && code === "ENOENT") return {};
    problems.push({ field: path, expected: `a readable file of YAML (${code})` });
    return {};
  }
  if (typeof content !== "object" || content === null || Array.isArray(content)) {
    problems.push({ field: path, expected: "settings, one `name: value` a line" });
    return {};
  }
  for (const name of Object.keys(content)) {
    if (Object.hasOwn(settings, name)) continue;
    problems.push({ field: `${path}: ${name}`, expected: `one of ${Object.keys(settings).join(", ")}` });
  }
  return { ...content };
}
