import type { OsUser } from "./os-user.ts";

/** A program to run, resolved: nothing of it goes through a shell. */
export interface Program {
  /** Absolute path, or a name to look up in PATH. */
  readonly file: string;
  /** Arguments; visible to every user of the host, so never a secret: that is secretInput or env. */
  readonly args: readonly string[];
  /** Added to the clean environment of PATH, LANG=C.UTF-8, TZ, HOME, USER and LOGNAME. */
  readonly env?: Readonly<Record<string, string>>;
  /** Runs as this user; anyone but the agent's own needs root. */
  readonly user?: OsUser;
  /** Working folder, which that user must be able to enter; "/" when left out. */
  readonly cwd?: string;
  /** It starts processes of its own (pg_restore with jobs, pg_dumpall), which must end with it when the agent dies. */
  readonly forks?: boolean;
  /**
   * It may end well before it has read all of its input (pg_restore of a selection): what is left is read for it, so
   * that the whole input is checked and no program before it loses its reader.
   */
  readonly readsOn?: boolean;
  /** A secret that it reads from its descriptor 3, /dev/fd/3: in memory, without a name, gone with the program. */
  readonly secretInput?: string;
  /** Whether a line of its stderr must be kept out of logs and errors, for example because it quotes SQL text. */
  readonly hidesLine?: (line: string) => boolean;
}
