// The one table of what a restore is told: flags, environment, the request, and the command line that says the same.
import { Option } from "commander";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { DumpContents } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import { type RestoreRequestSchema, RestoreWhat } from "@coppice/proto/gen/coppice/control/v1/restore";
import { fail } from "@coppice/proto/kit/failure";
import { readTextFile } from "@coppice/proto/kit/read-text-file";
import { dataDirectoryRequest, isDataDirectory, refuseDataDirectoryFlags } from "./data-directory-flags.ts";
import { nearestWord } from "../nearest-word.ts";
import { splitList, unquoteName } from "./split-names.ts";
import { isPartAtPoint, partRequest } from "./part-flags.ts";
import { shellWord } from "../../output/shell-word.ts";

/** What a restore is told by flags or by the environment. */
export interface RestoreFlags {
  readonly database?: string;
  readonly all?: boolean;
  readonly globals?: boolean;
  readonly backup?: string;
  readonly from?: string;
  readonly identity?: string;
  readonly as?: string;
  readonly to?: string;
  readonly replace?: boolean;
  readonly into?: boolean;
  readonly schema?: readonly string[];
  readonly table?: readonly string[];
  readonly schemaOnly?: boolean;
  readonly dataOnly?: boolean;
  readonly noOwner?: boolean;
  readonly noPrivileges?: boolean;
  readonly checksums?: boolean;
  readonly role?: readonly string[];
  readonly noTablespaces?: boolean;
  readonly jobs?: number;
  readonly at?: string;
  readonly lsn?: string;
  readonly xid?: number;
  readonly name?: string;
  readonly immediate?: boolean;
  readonly latest?: boolean;
  readonly exclusive?: boolean;
  readonly timeline?: number;
  readonly action?: string;
  readonly start?: boolean;
  readonly port?: number;
  readonly tablespace?: readonly string[];
  readonly scratch?: string;
  readonly accept?: readonly string[];
  readonly keepFailed?: boolean;
}

type Takes<Value> = Value extends boolean
  ? "nothing"
  : Value extends number
    ? "number"
    : Value extends string
      ? "text"
      : "texts";
type Table = {
  readonly [Name in keyof RestoreFlags]-?: readonly [takes: Takes<NonNullable<RestoreFlags[Name]>>, about: string];
};

const value: Partial<Record<keyof RestoreFlags, string>> = {
  backup: "id",
  from: "host:/path",
  identity: "file",
  to: "place",
  schema: "schema",
  table: "schema.name",
  role: "role",
  jobs: "n",
  at: "time",
  lsn: "lsn",
  xid: "n",
  timeline: "n",
  action: "what",
  port: "port",
  tablespace: "old=new",
  scratch: "folder",
  accept: "warning",
};

const table: Table = {
  database: ["text", "database in the backup, or in a dump of a whole cluster (--from)"],
  all: ["nothing", "the whole cluster: its globals, then every database under its own name"],
  globals: ["nothing", "roles and tablespaces alone; those that are there stay as they are"],
  backup: ["text", "backup to restore (the last good dump; for a directory the newest that leads to the point)"],
  from: ["text", "dump that Coppice did not make, on the host of the cluster's agent"],
  identity: ["text", "age identity file for an encrypted --from; it is kept sealed until the restore has ended"],
  as: ["text", "name for the restored database (the name it had)"],
  to: [
    "text",
    "cluster to restore into (the same), or HOST:/directory for the whole cluster byte by byte; see also --at",
  ],
  replace: ["nothing", "swap it for the present database or directory of that name, which is kept aside"],
  into: ["nothing", "put it into the present database of that name, all of it or nothing"],
  schema: ["texts", "only this schema"],
  table: ["texts", "only this table; a name with a dot in it in double quotes"],
  schemaOnly: ["nothing", "definitions without rows"],
  dataOnly: ["nothing", "rows without definitions, with --into"],
  noOwner: ["nothing", "everything belongs to the role that restores"],
  noPrivileges: ["nothing", "grant and revoke nothing"],
  checksums: ["nothing", "compare the rows of every table by checksum too, not only their number"],
  role: ["texts", "with --globals or --all: only this role"],
  noTablespaces: ["nothing", "with --globals or --all: leave tablespaces out"],
  jobs: ["number", "jobs of pg_restore (1)"],
  at: [
    "text",
    'a point: the directory, or with --database that one into a cluster or --to HOST:/file.dump, as it was then, such as "2026-11-20 02:55 Europe/Berlin" or "2 hours ago"',
  ],
  lsn: ["text", "a point: up to this WAL position"],
  xid: ["number", "a point: up to this transaction"],
  name: ["text", "a point: up to this restore point (pg_create_restore_point)"],
  immediate: ["nothing", "a point: no further than where the backup is consistent"],
  latest: ["nothing", "a point: the latest there is; a directory goes there without any of these"],
  exclusive: ["nothing", "with a point: leave out what is exactly at the time, position or transaction"],
  timeline: ["number", "with a point: timeline to follow (the latest that grew out of the backup's)"],
  action: ["text", "directory: what the server does there: promote, pause or shutdown (promote)"],
  start: ["nothing", "directory: start the server, wait for the end of recovery and check it"],
  port: ["number", "directory: port that the started server listens on (what its configuration says)"],
  tablespace: ["texts", "directory: folder for a tablespace, named by its folder or oid"],
  scratch: ["text", "with --database and a point: folder on that host to recover the cluster in meanwhile (/var/tmp)"],
  keepFailed: [
    "nothing",
    "directory: when it fails with all unpacked, keep that; the same restore again goes on with it",
  ],
  accept: ["texts", "with a point: do it in spite of this warning of the plan, which refuses it otherwise"],
};

const names = Object.keys(table) as readonly (keyof RestoreFlags)[];
const most: Partial<Record<keyof RestoreFlags, number>> = { jobs: 64, port: 65_535 };
const variablePrefix = "COPPICE_RESTORE_";
const mostNumber = 4_294_967_295;
const dashed = (name: string) => name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** Name of the variable that says the same as the flag. */
function variableOf(name: keyof RestoreFlags): string {
  return `${variablePrefix}${dashed(name).replaceAll("-", "_").toUpperCase()}`;
}

/** The flags as options of a command; each tells its variable. */
export function restoreOptions(): Option[] {
  return names.map((name) => {
    const [takes, about] = table[name];
    const flags = takes === "nothing" ? `--${dashed(name)}` : `--${dashed(name)} <${value[name] ?? "name"}>`;
    const more = takes === "texts" ? " (may be repeated)" : "";
    const option = new Option(flags, `${about}${more} [${variableOf(name)}]`);
    // What begins with `no` here says that something is left out, and is not the opposite of another flag.
    option.negate = false;
    if (takes === "texts") option.argParser((text: string, before: string[] | undefined) => [...(before ?? []), text]);
    return option;
  });
}

/**
 * The flags as they were given, completed from the environment: lists there are separated by commas, what has one in its
 * name in double quotes, and what takes no value is true or false. Errors: INVALID_FIELD, also for a variable that is
 * named like one of them and is none, as a mistyped one would count for nothing.
 */
export function readRestoreFlags(given: object, env: Readonly<Record<string, string | undefined>>): RestoreFlags {
  refuseUnknownVariables(env);
  const flags: Record<string, unknown> = {};
  for (const name of names) {
    const [takes] = table[name];
    const flag: unknown = Object.hasOwn(given, name) ? Reflect.get(given, name) : undefined;
    const variable = env[variableOf(name)];
    if (flag !== undefined)
      flags[name] = typeof flag === "string" && takes === "number" ? parseNumber(`--${name}`, flag, most[name]) : flag;
    else if (variable) flags[name] = parseVariable(name, variable);
  }
  return flags;
}

function refuseUnknownVariables(env: Readonly<Record<string, string | undefined>>): void {
  const known = names.map(variableOf);
  for (const [variable, text] of Object.entries(env)) {
    if (text === undefined || !variable.startsWith(variablePrefix) || known.includes(variable)) continue;
    fail("INVALID_FIELD", `${variable} is set, and there is no such variable`, {
      hint: `unset it; perhaps ${nearestWord(variable, known)} was meant`,
    });
  }
}

function parseVariable(flag: keyof RestoreFlags, text: string): unknown {
  const name = variableOf(flag);
  switch (table[flag][0]) {
    case "text":
      return text;
    case "texts": {
      const parts = splitList(text)?.filter(Boolean) ?? refuseQuote(name, text);
      // The quotes of a table's name belong to its form.
      return flag === "table" ? parts : parts.map(unquoteName);
    }
    case "number":
      return parseNumber(name, text, most[flag]);
    case "nothing":
      if (/^(1|true|yes)$/i.test(text)) return true;
      if (/^(0|false|no)$/i.test(text)) return undefined;
      return fail("INVALID_FIELD", `${name} is ${JSON.stringify(text)}`, { hint: `set ${name} to true or false` });
  }
}

function refuseQuote(name: string, text: string): never {
  return fail("INVALID_FIELD", `${name} is ${JSON.stringify(text)}, where a double quote has no end`, {
    hint: `put what has a comma or a quote in it in double quotes, and double those within: "a,b","say ""x"""`,
  });
}

function parseNumber(name: string, text: string, highest = mostNumber): number {
  const number = Number(text);
  if (/^\d+$/.test(text) && number >= 1 && number <= highest) return number;
  return fail("INVALID_FIELD", `${name} is ${JSON.stringify(text)}`, {
    hint: `give a whole number from 1 to ${highest}`,
  });
}

/**
 * The request that the flags stand for, the identity file read, times counted back from `now`. Errors: INVALID_FIELD for what contradicts itself or
 * cannot be read.
 */
export async function readRestoreRequest(
  cluster: string,
  flags: RestoreFlags,
  now: Date,
): Promise<MessageInitShape<typeof RestoreRequestSchema>> {
  const request = restoreRequest(cluster, flags, now);
  if (flags.identity === undefined) return request;
  if (flags.from === undefined) {
    fail("INVALID_FIELD", "--identity is for an encrypted file", {
      hint: "name the file with --from HOST:/path; the identity of a repository is kept with it",
    });
  }
  return { ...request, identity: await readTextFile(flags.identity, "identity") };
}

/** As readRestoreRequest, without the identity. */
export function restoreRequest(
  cluster: string,
  flags: RestoreFlags,
  now: Date,
): MessageInitShape<typeof RestoreRequestSchema> {
  if (isPartAtPoint(flags)) return partRequest(cluster, flags, selectionOf(flags), now);
  if (isDataDirectory(flags)) return dataDirectoryRequest(cluster, flags, now);
  refuseDataDirectoryFlags(flags);
  if (flags.all && flags.globals) refusePair("--all", "--globals", "--all restores the globals first");
  const selection = selectionOf(flags);
  const [fileHost, file] = flags.from === undefined ? ["", ""] : parsePath(flags.from);
  return {
    cluster,
    database: flags.database ?? "",
    what: flags.all ? RestoreWhat.CLUSTER : flags.globals ? RestoreWhat.GLOBALS : RestoreWhat.DATABASE,
    backup: flags.backup ?? "",
    file,
    fileHost,
    targetCluster: flags.to ?? "",
    targetDatabase: flags.as ?? "",
    replace: flags.replace ?? false,
    into: flags.into ?? false,
    jobs: flags.jobs ?? 0,
    roles: [...(flags.role ?? [])],
    noTablespaces: flags.noTablespaces ?? false,
    selection,
  };
}

function selectionOf(flags: RestoreFlags): NonNullable<MessageInitShape<typeof RestoreRequestSchema>["selection"]> {
  if (flags.schemaOnly && flags.dataOnly) refusePair("--schema-only", "--data-only", "leave both out for all of it");
  return {
    schemas: [...(flags.schema ?? [])],
    tables: (flags.table ?? []).map(parseTable),
    contents: flags.schemaOnly
      ? DumpContents.SCHEMA_ONLY
      : flags.dataOnly
        ? DumpContents.DATA_ONLY
        : DumpContents.UNSPECIFIED,
    noOwner: flags.noOwner ?? false,
    noPrivileges: flags.noPrivileges ?? false,
    checksums: flags.checksums ?? false,
  };
}

function refusePair(one: string, other: string, hint: string): never {
  return fail("INVALID_FIELD", `${one} and ${other} contradict each other`, { hint });
}

function parsePath(text: string): [host: string, path: string] {
  const [, host, path] = /^([a-z0-9_-]+):(\/.*)$/s.exec(text) ?? [];
  if (host !== undefined && path !== undefined) return [host, path];
  return fail("INVALID_FIELD", `${text} does not say on which host the file is, and where`, {
    hint: "write HOST:/path, for example db7:/srv/dumps/orders.sql.gz",
  });
}

/** `schema.name` or `name`; either may be quoted as in SQL. */
function parseTable(text: string): { schema: string; name: string } {
  const match = /^(?:"((?:[^"]|"")+)"|([^".]+))(?:\.(?:"((?:[^"]|"")+)"|([^"]+)))?$/s.exec(text);
  if (!match) {
    return fail("INVALID_FIELD", `${text} is not the name of a table`, {
      hint: `write schema.name; what has a dot or a double quote in it stands in double quotes, where each of its own is doubled: '"odd.schema"."a ""b"""'`,
    });
  }
  const [, quotedFirst, plainFirst, quotedSecond, plainSecond] = match;
  const first = quotedFirst?.replaceAll('""', '"') ?? plainFirst ?? "";
  const second = quotedSecond?.replaceAll('""', '"') ?? plainSecond;
  return second === undefined ? { schema: "", name: first } : { schema: first, name: second };
}

/** The command line that says the same, for a POSIX shell. */
export function formatRestoreCommand(cluster: string, flags: RestoreFlags): string {
  const words = names.flatMap((name) => {
    const given = flags[name];
    if (given === undefined || given === false) return [];
    const flag = `--${dashed(name)}`;
    if (given === true) return [flag];
    return (Array.isArray(given) ? given : [given]).flatMap((one) => [flag, shellWord(String(one))]);
  });
  return ["coppice restore create", shellWord(cluster), ...words].join(" ");
}
