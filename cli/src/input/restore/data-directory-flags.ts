import type { MessageInitShape } from "@bufbuild/protobuf";
import { RecoveryAction, type RecoveryTargetSchema } from "@coppice/proto/gen/coppice/common/v1/recovery_target";
import type { RestoreRequestSchema } from "@coppice/proto/gen/coppice/control/v1/restore";
import { fail } from "@coppice/proto/kit/failure";
import { parseInstant } from "../instant.ts";
import { formatLsn, parseLsn } from "@coppice/proto/kit/wal/lsn";
import type { RestoreFlags } from "./restore-flags.ts";

type Flag = keyof RestoreFlags;

const points = ["at", "lsn", "xid", "name", "immediate", "latest"] as const satisfies readonly Flag[];
/** Only with a data directory. */
const own = [...points, "exclusive", "timeline", "action", "start", "port", "tablespace"] as const;
/** Also with a data directory. */
const shared: readonly Flag[] = ["to", "backup", "replace"];
const actions = {
  promote: RecoveryAction.PROMOTE,
  pause: RecoveryAction.PAUSE,
  shutdown: RecoveryAction.SHUTDOWN,
};

/** Whether the flags name a data directory to restore into, by a place such as HOST:/path. */
export function isDataDirectory({ to }: RestoreFlags): boolean {
  return to !== undefined && to.includes("/");
}

/** Fails with INVALID_FIELD where a flag says something of a data directory, and there is none. */
export function refuseDataDirectoryFlags(flags: RestoreFlags): void {
  const [first] = own.filter((name) => isGiven(flags[name]));
  if (first === undefined) return;
  fail("INVALID_FIELD", `--${first} is about a data directory, and a dump is restored into a cluster that runs`, {
    hint: "say where the whole cluster goes: --to HOST:/EMPTY/DIRECTORY",
  });
}

/**
 * The request for a restore into a data directory, to a point in time. Fails with INVALID_FIELD for what contradicts
 * itself or belongs to dumps.
 */
export function dataDirectoryRequest(
  cluster: string,
  flags: RestoreFlags,
  now: Date,
): MessageInitShape<typeof RestoreRequestSchema> {
  const known: readonly string[] = [...own, ...shared];
  const [foreign] = Object.entries(flags).filter(([name, value]) => isGiven(value) && !known.includes(name));
  if (foreign) {
    fail("INVALID_FIELD", `--${dashed(foreign[0])} is about dumps, and a data directory is restored whole`, {
      hint: "leave it out, or name a cluster that runs with --to",
    });
  }
  const [host, dataDirectory] = parsePlace(flags.to ?? "");
  return {
    cluster,
    backup: flags.backup ?? "",
    replace: flags.replace ?? false,
    physical: {
      host,
      dataDirectory,
      target: recoveryTarget(flags, now),
      tablespaces: Object.fromEntries((flags.tablespace ?? []).map(parseTablespace)),
      start: flags.start ?? false,
      port: flags.port ?? 0,
    },
  };
}

const isGiven = (value: unknown) => value !== undefined && value !== false;
const dashed = (name: string) => name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

function parsePlace(text: string): [host: string, path: string] {
  const [, host, path] = /^([a-z0-9_-]+):(\/.*)$/s.exec(text) ?? [];
  if (host !== undefined && path !== undefined && path !== "/") return [host, path.replace(/\/+$/, "")];
  return fail("INVALID_FIELD", `${text} does not say on which host the data directory is to be, and where`, {
    hint: "write HOST:/path, for example db8:/var/lib/postgresql/17/main",
  });
}

function recoveryTarget(flags: RestoreFlags, now: Date): MessageInitShape<typeof RecoveryTargetSchema> {
  const given = points.filter((name) => isGiven(flags[name]));
  if (given.length > 1) {
    fail("INVALID_FIELD", `${given.map((name) => `--${name}`).join(" and ")} are different points`, {
      hint: "recovery ends at one of them: leave the others out",
    });
  }
  const [name] = given;
  if (flags.exclusive && name !== "at" && name !== "lsn" && name !== "xid") {
    fail("INVALID_FIELD", "--exclusive leaves out what is exactly at a time, a position or a transaction", {
      hint: "give --at, --lsn or --xid with it",
    });
  }
  if (flags.action !== undefined && (name === undefined || name === "latest")) {
    fail("INVALID_FIELD", "--action is what the server does at a point, and at the end of all WAL it always promotes", {
      hint: "leave it out, or name a point: --at, --lsn, --xid, --name or --immediate",
    });
  }
  return {
    point: recoveryPoint(name, flags, now),
    exclusive: flags.exclusive ?? false,
    timeline: flags.timeline ?? 0,
    action: flags.action === undefined ? RecoveryAction.UNSPECIFIED : parseAction(flags.action),
  };
}

function recoveryPoint(
  name: (typeof points)[number] | undefined,
  { at = "", lsn = "", xid = 0, name: restorePoint = "" }: RestoreFlags,
  now: Date,
): NonNullable<MessageInitShape<typeof RecoveryTargetSchema>["point"]> {
  switch (name) {
    case "at": {
      const micros = parseInstant(at, now);
      const seconds = micros / 1_000_000n;
      return { case: "time", value: { seconds, nanos: Number(micros % 1_000_000n) * 1000 } };
    }
    case "lsn":
      return { case: "lsn", value: formatLsn(parseLsn(lsn)) };
    case "xid":
      return { case: "xid", value: xid };
    case "name":
      return { case: "name", value: restorePoint };
    case "immediate":
      return { case: "immediate", value: true };
    case "latest":
    case undefined:
      return { case: undefined };
  }
}

function parseAction(text: string): RecoveryAction {
  const [, action] = Object.entries(actions).find(([name]) => name === text) ?? [];
  if (action !== undefined) return action;
  return fail("INVALID_FIELD", `--action is ${JSON.stringify(text)}`, {
    hint: `use one of ${Object.keys(actions).join(", ")}`,
  });
}

/** `OLD=NEW`; the old one is its oid or the folder it was in. */
function parseTablespace(text: string): [former: string, folder: string] {
  const [, former, folder] = /^(\d+|\/.*?)=(\/.+)$/s.exec(text) ?? [];
  if (former !== undefined && folder !== undefined) return [former, folder];
  return fail("INVALID_FIELD", `--tablespace ${text} does not say which folder becomes which`, {
    hint: "write OLD=NEW, both beginning with /, or the tablespace's oid for OLD",
  });
}
