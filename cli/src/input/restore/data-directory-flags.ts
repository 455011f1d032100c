import type { MessageInitShape } from "@bufbuild/protobuf";
import type { RestoreRequestSchema } from "@coppice/proto/gen/coppice/control/v1/restore";
import { fail } from "@coppice/proto/kit/failure";
import { recoveryPoints, recoveryTargetOf } from "@coppice/proto/kit/recovery-point/recovery-flags";
import type { RestoreFlags } from "./restore-flags.ts";

type Flag = keyof RestoreFlags;

/** Only with a data directory. */
const own = [
  ...recoveryPoints,
  "exclusive",
  "timeline",
  "action",
  "start",
  "port",
  "tablespace",
  "accept",
  "keepFailed",
] as const;
/** Also with a data directory. */
const shared: readonly Flag[] = ["to", "backup", "replace"];

/** Whether the flags name a data directory to restore into, by a place such as HOST:/path. */
export function isDataDirectory({ to }: RestoreFlags): boolean {
  return to !== undefined && to.includes("/");
}

/** Fails with INVALID_FIELD where a flag says something of a data directory, and there is none. */
export function refuseDataDirectoryFlags(flags: RestoreFlags): void {
  const [first] = [...own, "scratch" as const].filter((name) => isGiven(flags[name]));
  if (first === undefined) return;
  fail(
    "INVALID_FIELD",
    `--${dashed(first)} is about a data directory, and a dump is restored into a cluster that runs`,
    {
      hint: "say where the whole cluster goes: --to HOST:/EMPTY/DIRECTORY; or with a point, which database: --database NAME",
    },
  );
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
      hint: "leave it out, or name a cluster that runs with --to; for one database at a point in time add --at or another point",
    });
  }
  const [host, dataDirectory] = parsePlace(flags.to ?? "");
  return {
    cluster,
    backup: flags.backup ?? "",
    replace: flags.replace ?? false,
    accept: [...(flags.accept ?? [])],
    physical: {
      host,
      dataDirectory,
      target: recoveryTargetOf(flags, now),
      tablespaces: Object.fromEntries((flags.tablespace ?? []).map(parseTablespace)),
      start: flags.start ?? false,
      port: flags.port ?? 0,
      keepFailed: flags.keepFailed ?? false,
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

/** `OLD=NEW`; the old one is its oid or the folder it was in. */
function parseTablespace(text: string): [former: string, folder: string] {
  const [, former, folder] = /^(\d+|\/.*?)=(\/.+)$/s.exec(text) ?? [];
  if (former !== undefined && folder !== undefined) return [former, folder];
  return fail("INVALID_FIELD", `--tablespace ${text} does not say which folder becomes which`, {
    hint: "write OLD=NEW, both beginning with /, or the tablespace's oid for OLD",
  });
}
