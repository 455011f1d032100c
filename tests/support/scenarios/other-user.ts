import { cp } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { runProgram } from "../run-program.ts";

/** Another user of the machine, and the agent as run by him. */
export interface OtherUser {
  readonly uid: number;
  readonly gid: number;
  /** What an agent's arguments are put behind. */
  readonly commandLine: readonly string[];
}

/** Only root can be another user; he gets a copy of the program in the folder where it is out of his reach. */
export async function openOtherUser(
  user: string,
  { agent, folder }: { readonly agent: string; readonly folder: string },
): Promise<OtherUser> {
  const env = { PATH: process.env["PATH"] };
  const ids = await Promise.all(["-u", "-g"].map((flag) => runProgram("id", [flag, user], { env })));
  const [uid = 0, gid = 0] = ids.map(({ stdout }) => Number(stdout));
  if (uid === 0) throw new Error(`there is no user ${user}`);
  const setpriv = ["setpriv", `--reuid=${uid}`, `--regid=${gid}`, "--clear-groups", "--"];
  const reached = await runProgram("setpriv", [...setpriv.slice(1), agent, "--version"], { env });
  if (reached.code === 0) return { uid, gid, commandLine: [...setpriv, agent] };
  const copy = join(folder, "programs");
  const library = join(dirname(agent), "../lib/coppice");
  for (const part of ["bin", "coppice-agent"]) {
    await cp(join(library, part), join(copy, "lib/coppice", part), { recursive: true });
  }
  await cp(agent, join(copy, "bin", basename(agent)));
  return { uid, gid, commandLine: [...setpriv, join(copy, "bin", basename(agent))] };
}
