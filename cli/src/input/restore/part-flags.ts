import type { MessageInitShape } from "@bufbuild/protobuf";
import { type RestoreRequestSchema, RestoreWhat } from "@coppice/proto/gen/coppice/control/v1/restore";
import { fail } from "@coppice/proto/kit/failure";
import { recoveryPoints, recoveryTargetOf } from "@coppice/proto/kit/recovery-point/recovery-flags";
import type { RestoreFlags } from "./restore-flags.ts";

/** Flags of a data directory, or of dumps of whole clusters and files, with which a part at a point has nothing to do. */
const foreign = [
  "start",
  "port",
  "tablespace",
  "action",
  "all",
  "globals",
  "from",
  "identity",
  "role",
  "noTablespaces",
] as const;

const isGiven = (value: unknown) => value !== undefined && value !== false;
const dashed = (name: string) => name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** Whether the flags ask for one database, or a part of it, as it was at a point in time. */
export function isPartAtPoint(flags: RestoreFlags): boolean {
  return (
    flags.database !== undefined && (recoveryPoints.some((name) => isGiven(flags[name])) || isGiven(flags.scratch))
  );
}

/** The request for that, what is wanted of the database given. Fails with INVALID_FIELD for what contradicts itself. */
export function partRequest(
  cluster: string,
  flags: RestoreFlags,
  selection: NonNullable<MessageInitShape<typeof RestoreRequestSchema>["selection"]>,
  now: Date,
): MessageInitShape<typeof RestoreRequestSchema> {
  const [first] = foreign.filter((name) => isGiven(flags[name]));
  if (first !== undefined) {
    fail("INVALID_FIELD", `--${dashed(first)} does not go with one database at a point in time`, {
      hint: "leave it out; the server that is recovered for it is gone afterwards",
    });
  }
  const [fileHost, file] = flags.to?.includes("/") ? parsePlace(flags.to) : ["", ""];
  return {
    cluster,
    backup: flags.backup ?? "",
    database: flags.database ?? "",
    what: RestoreWhat.DATABASE,
    targetCluster: file === "" ? (flags.to ?? "") : "",
    targetDatabase: flags.as ?? "",
    replace: flags.replace ?? false,
    into: flags.into ?? false,
    jobs: flags.jobs ?? 0,
    selection,
    accept: [...(flags.accept ?? [])],
    part: { target: recoveryTargetOf(flags, now), fileHost, file, scratch: flags.scratch ?? "" },
  };
}

function parsePlace(text: string): [host: string, path: string] {
  const [, host, path] = /^([a-z0-9_-]+):(\/.*[^/])$/s.exec(text) ?? [];
  if (host !== undefined && path !== undefined) return [host, path];
  return fail("INVALID_FIELD", `${text} does not say on which host the dump file is to be, and where`, {
    hint: "write HOST:/path, for example db8:/srv/dumps/items.dump",
  });
}
