import { readFileSync } from "node:fs";
import { parse } from "yaml";
import { fail, type RefusedField } from "./failure.ts";

/** One setting of a program. Its name is that of its table's key, the same in the file and, in upper case, in the environment. */
export interface Setting<Value> {
  /** Value when nobody gives one. */
  readonly initial: Value;
  /** What a good value is, for people. */
  readonly expected: string;
  /** Its value is never shown. */
  readonly secret?: true;
  /** Undefined when the text is not what is expected. */
  readonly read: (text: string) => Value | undefined;
}

/** Where settings come from: the command line wins over the environment, that over the file. */
export interface SettingSources<Name extends string> {
  /** Options of the command line, by the setting's name. */
  readonly options: Readonly<Partial<Record<Name, string | undefined>>>;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** What the names of its variables begin with, such as COPPICE_. */
  readonly prefix: string;
  /** Whether the prefix is the program's alone, so that a variable of no known name is a mistake. */
  readonly ownsPrefix: boolean;
  /** File that was asked for, which must be there; without it the variable `<prefix>CONFIG` names one. */
  readonly file: string | undefined;
  /** File that is read when none was asked for, if it is there and may be read. */
  readonly defaultFile: string;
}

/** The levels of a program's log. */
export const logLevels = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;

/** The setting that both resident programs have. */
export const logLevelSetting: Setting<(typeof logLevels)[number]> = {
  initial: "info",
  expected: `one of ${logLevels.join(", ")}`,
  read: (text) => logLevels.find((level) => level === text),
};

type Settings = Readonly<Record<string, Setting<unknown>>>;
type Values<Table extends Settings> = {
  readonly [Name in keyof Table]: Table[Name] extends Setting<infer Value> ? Value : never;
};

/**
 * Resolves all settings of a program, once. Fails with CONFIGURATION_INVALID, whose fields are all problems at once:
 * where the value came from, what it is (unless it is secret) and what was expected.
 */
export function resolveSettings<Table extends Settings>(
  settings: Table,
  { options, env, prefix, ownsPrefix, file, defaultFile }: SettingSources<keyof Table & string>,
): Values<Table> {
  const problems: RefusedField[] = [];
  const names = Object.keys(settings);
  const variableOf = (name: string) => prefix + name.toUpperCase();
  // Here, too, an empty variable is none.
  const asked = file ?? (env[`${prefix}CONFIG`] || undefined);
  const fromFile = readFile(asked, defaultFile, names, problems);
  if (ownsPrefix) {
    const known = [`${prefix}CONFIG`, ...names.map(variableOf)];
    for (const variable of Object.keys(env)) {
      if (!variable.startsWith(prefix) || known.includes(variable)) continue;
      problems.push({ field: variable, expected: `one of ${known.join(", ")}` });
    }
  }
  const values = Object.entries(settings).map(([name, { initial, expected, secret, read }]) => {
    const candidates: [string, unknown][] = [
      [`--${name.replaceAll("_", "-")}`, options[name]],
      // An empty variable is how an environment file leaves a setting out.
      [variableOf(name), env[variableOf(name)] || undefined],
      [`${asked ?? defaultFile}: ${name}`, fromFile[name]],
    ];
    const given = candidates.find(([, value]) => value !== undefined && value !== null);
    if (given === undefined) return [name, initial];
    const [field, value] = given;
    const text = Array.isArray(value) ? value.join(",") : String(value);
    const good = read(text);
    if (good === undefined) problems.push({ field, expected, ...(secret ? {} : { value: JSON.stringify(text) }) });
    return [name, good];
  });
  if (problems.length > 0) {
    const lines = problems.map(({ field, value, expected }) =>
      value === undefined ? `${field}: expected ${expected}` : `${field} is ${value}: expected ${expected}`,
    );
    fail("CONFIGURATION_INVALID", lines.join("; "), { fields: problems });
  }
  // Every name was resolved by its own setting's `read`.
  return Object.fromEntries(values) as Values<Table>;
}

function readFile(
  asked: string | undefined,
  defaultFile: string,
  names: readonly string[],
  problems: RefusedField[],
): Readonly<Record<string, unknown>> {
  const path = asked ?? defaultFile;
  const refuse = (expected: string) => {
    problems.push({ field: path, expected });
    return {};
  };
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : String(error);
    if (asked === undefined && code === "ENOENT") return {};
    if (asked === undefined && code === "EACCES") {
      // The services' own settings are not for everybody's eyes, and whoever tries a program out does not need them.
      process.emitWarning(`${path} may not be read by this user, so that nothing of it is used`);
      return {};
    }
    return refuse(`a readable file (${code})`);
  }
  let content: unknown;
  try {
    content = parse(text) ?? {};
  } catch (error) {
    return refuse(`YAML (${error instanceof Error ? error.message.split("\n")[0] : "unreadable"})`);
  }
  if (typeof content !== "object" || content === null || Array.isArray(content)) {
    return refuse("settings, one `name: value` a line");
  }
  for (const name of Object.keys(content)) {
    if (!names.includes(name)) problems.push({ field: `${path}: ${name}`, expected: `one of ${names.join(", ")}` });
  }
  return { ...content };
}
