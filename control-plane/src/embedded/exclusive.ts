import { link, readFile, rm, unlink, writeFile } from "node:fs/promises";
import { fail } from "@coppice/proto/kit/failure";

/**
 * Keeps a second control plane away from the same embedded server, by a file with our process's id and start time.
 * The file of a process that is gone counts for nothing. Errors: CONFIGURATION_INVALID naming the other process.
 */
export async function holdExclusively(file: string): Promise<AsyncDisposable> {
  const self = `${process.pid} ${await startTime(process.pid)}\n`;
  const own = `${file}.${process.pid}`;
  await writeFile(own, self, { mode: 0o600 });
  try {
    for (;;) {
      try {
        await link(own, file);
        break;
      } catch (error) {
        if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
      }
      const [pid = "", start] = (await readFile(file, "utf8")).trim().split(" ");
      if (start !== undefined && (await startTime(Number(pid))) === start) {
        fail("CONFIGURATION_INVALID", `another control plane, process ${pid}, uses the same data folder`, {
          hint: "stop it first, or choose another --data-dir; several replicas share a catalog by COPPICE_DATABASE_URL",
        });
      }
      await rm(file, { force: true });
    }
  } finally {
    await unlink(own);
  }
  return { [Symbol.asyncDispose]: () => rm(file, { force: true }) };
}

/** When a process started, in clock ticks since the machine did; undefined when it is gone. */
async function startTime(pid: number): Promise<string | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, "latin1");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? undefined : fields[19];
  } catch (error) {
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ESRCH"))
      return undefined;
    throw error;
  }
}
