import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openInstallation } from "../support/installation.ts";
import { findPrograms } from "../support/programs.ts";
import { runProgram } from "../support/run-program.ts";
import { startSshd } from "../support/sshd/sshd.ts";

// The library is bundled into the installed programs, where it starts otherwise than from its own folder.
test("the installed programs reach an SSH server, with a key out of a credentials file and without a control plane", async () => {
  await using installation = await openInstallation();
  await using sshd = await startSshd();
  await installation.addAgent("db7");
  const folder = join(installation.folder, "vault");
  await mkdir(folder);
  const credentials = join(installation.folder, "key.yaml");
  await writeFile(credentials, `private_key_file: ${sshd.identityFile}\n`, { mode: 0o600 });
  const place = `ssh://${sshd.user}@127.0.0.1:${sshd.port}${folder}`;

  const add = ["repository", "add", "vault", place, "--host-key", sshd.hostKey, "--credentials", credentials];
  const said = await installation.must([...add, "--check"]);
  expect(said).toContain("repository vault works from db7");

  const keys = ["--host-key", sshd.hostKey, "--identity-file", sshd.identityFile];
  const listed = await runProgram(findPrograms().agent, ["ls", "--repo", place, ...keys], { env: process.env });
  expect(listed).toMatchObject({ code: 3, stdout: expect.stringContaining("holds no cluster") as string, stderr: "" });
});
