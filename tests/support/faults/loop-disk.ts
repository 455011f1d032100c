import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { runProgram } from "../run-program.ts";

/** A file system of its own in a file. */
export interface LoopDisk extends AsyncDisposable {
  readonly path: string;
}

/** Why this machine cannot have one; undefined where it can. */
export function whyNoLoopDisk(): string | undefined {
  if (process.getuid?.() !== 0) return "only root can mount a disk";
  return existsSync("/dev/loop-control") ? undefined : "there are no loop devices";
}

/** Runs a program of the system's administrator. */
export async function runSystem(program: string, ...args: string[]): Promise<void> {
  const { code, stderr } = await runProgram(program, args, { env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" } });
  if (code !== 0) throw new Error(`${program}: ${stderr}`);
}

/** Makes one, of a size as `truncate` takes it. */
export async function openLoopDisk(type: "ext4" | "xfs", size: string): Promise<LoopDisk> {
  const folder = await mkdtemp(join(tmpdir(), "coppice-disk-"));
  const [image, path] = [join(folder, "image"), join(folder, "disk")];
  await mkdir(path);
  await runSystem("truncate", `--size=${size}`, image);
  await runSystem(`mkfs.${type}`, "-q", type === "ext4" ? "-F" : "-f", image);
  await runSystem("mount", "-o", "loop", image, path);
  return {
    path,
    async [Symbol.asyncDispose]() {
      await runSystem("umount", path);
      await rm(folder, { recursive: true, force: true });
    },
  };
}
