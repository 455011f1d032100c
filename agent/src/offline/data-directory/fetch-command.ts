import { chmod, chown, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { Failure, fail, isFailure } from "@coppice/proto/kit/failure";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import type { OsUser } from "../../host/os-user.ts";
import { runProgram } from "../../host/run.ts";
import { quoteWord } from "../../wal/fetch/open-replay.ts";
import { parseRepositoryUrl } from "../place/location.ts";
import type { PlaceOptions } from "../place/place.ts";

/** Which archive a server that is started later fetches its WAL from, and how far. */
export interface FetchedArchive extends PlaceOptions {
  /** cls_… */
  readonly clusterId: string;
  readonly identity?: string;
  /** From here on it is not to be given anything. */
  readonly endLsn: bigint | undefined;
}

const absolute = (path: string | undefined) => (path === undefined ? undefined : resolve(path));
/** What S3's clients take keys from; a server that is started in another environment has none of it. */
const credentialNames = /^AWS_/;

/**
 * The restore_command by which a server fetches its WAL with this program and nothing else: `%f` and `%p` are PostgreSQL's.
 * Paths in it are absolute, and there is no secret in it. Fails with INVALID_FIELD where one holds the end of a line, which a
 * server's ALTER SYSTEM would write as it is, and not read again.
 */
export function fetchCommand(archive: FetchedArchive): string {
  const { repo, clusterId, identity, endLsn, hostKey = [] } = archive;
  const location = parseRepositoryUrl(repo);
  const folder = location.kind.case === "filesystem" ? location.kind.value.path : repo;
  const given: readonly (readonly [name: string, value: string | undefined])[] = [
    ["repo", folder],
    ["cluster", clusterId],
    ["endpoint", archive.endpoint],
    ["region", archive.region],
    ["profile", archive.profile],
    ["ca-file", absolute(archive.caFile)],
    ["known-hosts", absolute(archive.knownHosts)],
    ["identity-file", archive.identityFile],
    ["identity", absolute(identity)],
    ["end-lsn", endLsn === undefined ? undefined : formatLsn(endLsn)],
    ...hostKey.map((key) => ["host-key", key] as const),
  ];
  const style = archive.pathStyle === undefined ? [] : [archive.pathStyle ? "--path-style" : "--no-path-style"];
  const flags = given.flatMap(([name, value]) => (value === undefined ? [] : [`--${name}`, value]));
  const program = [process.execPath, resolve(process.argv[1] ?? "")];
  const broken = [...program, ...flags].find((word) => word.includes("\n"));
  if (broken !== undefined)
    fail("INVALID_FIELD", `${JSON.stringify(broken)} holds the end of a line, and a server's restore_command may not`, {
      hint: "let this program start the server and hand the WAL over: --start; or name it by a link without one",
    });
  return `${[...program, "fetch", ...flags, ...style].map(quoteWord).join(" ")} %f %p`;
}

/** Files and folders of this host without which such a command works no more. */
export function filesOfFetch({
  repo,
  identity,
  caFile,
  knownHosts,
  identityFile,
}: Omit<FetchedArchive, "clusterId" | "endLsn">) {
  const { kind } = parseRepositoryUrl(repo);
  const folder = kind.case === "filesystem" ? kind.value.path : undefined;
  const program = [process.execPath, resolve(process.argv[1] ?? "")];
  const given = [folder, identity, caFile, knownHosts, identityFile].flatMap((path) =>
    path === undefined ? [] : [resolve(path)],
  );
  return [...program, ...given];
}

/**
 * Runs the command for a segment that is there, as the user of the server: what it cannot do now it will not be able to do
 * when the server asks. Gives what has to be kept in mind when the server is started. Fails with WAL_MISSING.
 */
export async function tryFetchCommand(
  command: string,
  {
    repo,
    user,
    segment,
    systemIdentifier,
    signal,
  }: { repo: string; user: OsUser; segment: string; systemIdentifier: string; signal: AbortSignal },
): Promise<string[]> {
  const folder = await mkdtemp(join(tmpdir(), "coppice-try-"));
  try {
    await chmod(folder, 0o700);
    if (process.geteuid?.() === 0) await chown(folder, user.uid, user.gid);
    const given = new Map([
      ["%f", segment],
      ["%p", "segment"],
      ["%%", "%"],
    ]);
    const filled = command
      .replaceAll(/%[fp%]/g, (word) => given.get(word) ?? word)
      .replace(" 'fetch' ", ` 'fetch' --wait 5 --system-identifier ${systemIdentifier} `);
    const env = parseRepositoryUrl(repo).kind.case === "s3" ? credentialsOf(process.env) : {};
    await runProgram({ file: "/bin/sh", args: ["-c", filled], user, cwd: folder, env, forks: true }, { signal });
    return Object.keys(env).length === 0
      ? []
      : [`start the server where ${Object.keys(env).join(", ")} are set: it fetches WAL with them`];
  } catch (error) {
    if (!isFailure(error, "PROGRAM_FAILED")) throw error;
    throw new Failure("WAL_MISSING", `${user.name}, whose server it will be, cannot fetch WAL: ${error.message}`, {
      hint: "let this program start the server and hand the WAL over: --start; or let that user read the repository and the identity",
      cause: error,
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function credentialsOf(env: Readonly<Record<string, string | undefined>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(env).flatMap(([name, value]) =>
      value !== undefined && credentialNames.test(name) ? [[name, value] as const] : [],
    ),
  );
}

/** The segment that recovery begins with, by the name that it is archived under. Fails with WAL_MISSING. */
export function firstSegment(
  extents: readonly { readonly timeline: number; readonly startLsn: bigint; readonly endLsn: bigint }[],
  { timelines, startLsn }: { readonly timelines: readonly number[]; readonly startLsn: bigint },
  nameOf: (timeline: number, lsn: bigint) => string,
): string {
  const found = extents.find(
    (extent) => timelines.includes(extent.timeline) && extent.startLsn <= startLsn && extent.endLsn > startLsn,
  );
  if (!found) return fail("WAL_MISSING", `no segment of ${formatLsn(startLsn)} is archived`);
  return nameOf(found.timeline, startLsn);
}
