import { fail } from "@coppice/proto/kit/failure";

/** The oldest major version that is supported and tested. */
const oldestMajor = 15;

/** Major version of a server_version_num such as 180001. */
export function majorOf(serverVersionNum: number): number {
  return Math.floor(serverVersionNum / 10_000);
}

/** Fails with SERVER_UNSUPPORTED when the server is older than what is supported. */
export function requireSupported(serverVersionNum: number): void {
  const major = majorOf(serverVersionNum);
  if (major < oldestMajor)
    fail("SERVER_UNSUPPORTED", `the server is PostgreSQL ${major}, and the oldest supported one is ${oldestMajor}`);
}

/** Fails with SERVER_UNSUPPORTED when a dump of one major would have to go into an older one. */
export function requireRestorable(dumpedMajor: number, serverMajor: number): void {
  if (dumpedMajor > serverMajor)
    fail(
      "SERVER_UNSUPPORTED",
      `the backup is of PostgreSQL ${dumpedMajor}, and the server is the older PostgreSQL ${serverMajor}`,
      { hint: `restore it into PostgreSQL ${dumpedMajor} or newer` },
    );
}

/**
 * Whether a server understands the settings that dumps of these tools begin with: from 17 on that is transaction_timeout
 * too, which a server before 17 refuses (seen: pg_restore 18 into 15).
 */
export function knowsSettingsOf(toolMajor: number, serverMajor: number): boolean {
  return toolMajor < 17 || serverMajor >= 17;
}

/** Of the majors of installed tools the one to use: the wanted one, else the next newer; undefined when all are older. */
export function chooseToolMajor(installed: readonly number[], wanted: number): number | undefined {
  return installed.filter((major) => major >= wanted).sort((a, b) => a - b)[0];
}
