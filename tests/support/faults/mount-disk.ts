import { mkdtemp, rmdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runProgram } from "../run-program.ts";

/** A file system of its own, to fill. */
export interface Disk extends AsyncDisposable {
  readonly folder: string;
}

/** Mounts one of so many megabytes, which only root can; `options` are further ones of mount, with a comma in front. */
export async function mountDisk(megabytes: number, options = ""): Promise<Disk> {
  const folder = await mkdtemp(join(tmpdir(), "coppice-disk-"));
  const args = ["-t", "tmpfs", "-o", `size=${megabytes}m${options}`, "none", folder];
  const { code, stderr } = await runProgram("mount", args, { env: process.env });
  if (code !== 0) throw new Error(stderr);
  return {
    folder,
    async [Symbol.asyncDispose]() {
      await runProgram("umount", ["--lazy", folder], { env: process.env });
      await rmdir(folder);
    },
  };
}
