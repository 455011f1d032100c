import { fail } from "@coppice/proto/kit/failure";
import type { Database } from "../catalog/catalog.ts";
import { findHost, type HostRow, listHosts } from "../catalog/host.ts";
import type { RepositoryRow } from "../catalog/repository.ts";
import { requireHost } from "../inventory/require.ts";
import { mayDecrypt, requireMayDecrypt } from "../secrets/may-decrypt.ts";
import { requireReachable } from "./choose-repository.ts";

/** What a host is looked for. */
export interface Work {
  readonly repository: RepositoryRow;
  /** Name or id of the host to take; empty means that one is chosen. */
  readonly host?: string;
  /** Id of the host that would be best, of the cluster's own for example. */
  readonly preferred?: string | undefined;
  /** Whether what is encrypted has to be decrypted. */
  readonly decrypts?: boolean;
}

/**
 * The host whose agent works on a repository alone, without a cluster: the one that is named, else the home host, the
 * preferred one, or the first that is connected. Errors: HOST_NOT_FOUND, REPOSITORY_WRONG_HOST, HOST_MAY_NOT_DECRYPT.
 */
export async function chooseWorker(db: Database, work: Work): Promise<HostRow> {
  const { repository, preferred, decrypts = false } = work;
  const home = await findHost(db, repository.homeHostId ?? "");
  const needsIdentity = decrypts && repository.encryption !== null;
  if (work.host) {
    const host = await requireHost(db, work.host);
    requireReachable(repository, home, host);
    if (needsIdentity) requireMayDecrypt(repository, host);
    return host;
  }
  const fits = (host: HostRow) => !needsIdentity || mayDecrypt(host);
  if (home) {
    if (!fits(home)) requireMayDecrypt(repository, home);
    return home;
  }
  const hosts = (await listHosts(db)).filter(fits);
  const connected = hosts.filter(({ state }) => state === "CONNECTED");
  const chosen =
    connected.find(({ id }) => id === preferred) ??
    connected[0] ??
    hosts.find(({ id }) => id === preferred) ??
    hosts[0];
  if (chosen) return chosen;
  if (needsIdentity) {
    return fail("HOST_MAY_NOT_DECRYPT", `no host may decrypt what repository ${repository.name} holds`);
  }
  return fail("HOST_NOT_FOUND", `there is no host that could work on repository ${repository.name}`, {
    hint: "add one: coppice host add NAME",
  });
}
