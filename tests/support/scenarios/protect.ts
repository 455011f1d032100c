import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Installation } from "../installation.ts";
import type { PostgresServer } from "../postgres-servers.ts";
import { runProgram } from "../run-program.ts";

/** Makes a folder and registers it as a repository of the host; gives the folder. */
export async function addRepository(installation: Installation, name: string, host: string): Promise<string> {
  const folder = join(installation.folder, `repository-${name}`);
  await mkdir(folder);
  const location = { filesystem: { path: folder } };
  await installation.call("RepositoryService/CreateRepository", { name, homeHost: host, location });
  return folder;
}

/** As addRepository, encrypted to one recipient, whose identity stays with the test. */
export async function addEncryptedRepository(
  installation: Installation,
  name: string,
  {
    host,
    recipient,
    identityFile,
  }: { readonly host: string; readonly recipient: string; readonly identityFile: string },
): Promise<string> {
  const folder = join(installation.folder, `repository-${name}`);
  await mkdir(folder);
  const { encryptedProbe, token } = await installation.call<{ encryptedProbe: string; token: string }>(
    "RepositoryService/CreateRecoveryChallenge",
    { recoveryRecipient: recipient },
  );
  const { stdout: answer } = await runProgram("age", ["--decrypt", `--identity=${identityFile}`], {
    env: { PATH: "/usr/bin:/bin" },
    input: encryptedProbe,
  });
  const encryption = { recoveryRecipient: recipient, challengeToken: token, answer, withoutIdentity: true };
  const location = { filesystem: { path: folder } };
  await installation.call("RepositoryService/CreateRepository", { name, homeHost: host, location, encryption });
  return folder;
}

/** Registers a server, reached over TCP with its superuser's password, as a cluster that the host's agent protects. */
export async function addCluster(
  installation: Installation,
  name: string,
  { host, server }: { readonly host: string; readonly server: PostgresServer },
): Promise<void> {
  const endpoint = { host: "127.0.0.1", port: server.port, user: server.superuser };
  await installation.call("ClusterService/CreateCluster", { name, host, endpoint, password: server.password });
}
