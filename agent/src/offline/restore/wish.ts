import type { BackupManifest } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { fail } from "@coppice/proto/kit/failure";
import { showName } from "../show-name.ts";

/** Flags that say what is restored, and as what. */
export interface WishOptions {
  readonly database?: string;
  readonly as?: string;
  readonly replace?: boolean;
  readonly globals?: boolean;
  readonly all?: boolean;
}

/** What is restored. */
export interface Wish {
  /** Whether roles and tablespaces are made first. */
  readonly globals: boolean;
  /** Database in the backup, and the name it gets. */
  readonly databases: readonly { readonly name: string; readonly target: string }[];
  /** Whether a present database is put aside. */
  readonly replace: boolean;
  /** Whether it is the whole cluster, for which the databases that every new cluster has may go. */
  readonly all: boolean;
}

/** Databases that every new cluster has, last: until then they are worked from. */
export const initialDatabases: readonly string[] = ["postgres", "template1"];

/** What the flags ask for of a backup. Fails with INVALID_FIELD. */
export function readWish(
  { database, as, replace = false, globals = false, all = false }: WishOptions,
  manifest: BackupManifest,
): Wish {
  const dump = manifest.content.case === "dump" ? manifest.content.value : undefined;
  const names = (dump?.databases ?? []).map(({ name }) => name);
  if (all && (database !== undefined || globals))
    fail("INVALID_FIELD", "--all is everything already", { hint: "leave out --database and --globals" });
  if (as !== undefined && database === undefined)
    fail("INVALID_FIELD", "--as is the name of one database", { hint: "name the database too: --database NAME" });
  if (replace && !all && database === undefined)
    fail("INVALID_FIELD", "--replace is for databases", { hint: "name one by --database NAME, or take --all" });
  if (all) {
    const order = (name: string) => initialDatabases.indexOf(name);
    const sorted = names.toSorted((one, two) => order(one) - order(two));
    return { globals: true, databases: sorted.map((name) => ({ name, target: name })), replace, all };
  }
  if (database === undefined && !globals)
    fail("INVALID_FIELD", "nothing says what to restore", {
      hint: `--all, --globals or --database NAME, of ${names.map(showName).join(", ")}`,
    });
  const databases = database === undefined ? [] : [{ name: database, target: as ?? database }];
  return { globals, databases, replace, all };
}
