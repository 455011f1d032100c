import { isAbsolute, resolve } from "node:path";
import { parseDuration } from "@coppice/proto/kit/duration";
import { isFailure } from "@coppice/proto/kit/failure";
import { logLevelSetting, type logLevels, resolveSettings, type Setting } from "@coppice/proto/kit/settings";
import { stringify } from "yaml";

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
  log_level: logLevelSetting,
  heartbeat_interval: {
    initial: 10_000,
    expected: "a duration from 100ms to 5m",
    read: readHeartbeat,
  } satisfies Setting<number>,
};

/** Reads and checks all settings. Fails with CONFIGURATION_INVALID, whose fields are all problems at once. */
export function loadConfig({ options, env }: ConfigSources): Config {
  const values = resolveSettings(settings, {
    // A path on the command line is meant from where the person stands.
    options: { data_dir: options.dataDir && resolve(options.dataDir), listen: options.listen },
    env,
    prefix: "COPPICE_",
    // The other programs on a machine have variables of this prefix too.
    ownsPrefix: false,
    file: options.config,
    defaultFile: "/etc/coppice/control.yaml",
  });
  return {
    dataDirectory: values.data_dir,
    listen: values.listen,
    addresses: values.addresses,
    databaseUrl: values.database_url,
    masterKey: values.master_key,
    logLevel: values.log_level,
    heartbeatMs: values.heartbeat_interval,
  };
}

/** The settings as the file would hold them, secrets hidden. */
export function formatConfig(config: Config): string {
  const { host, port } = config.listen;
  const shown: Record<keyof typeof settings, unknown> = {
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
