import { existsSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dirname, "../..");

/** The three programs as they are installed; scenario tests, fault tests and benchmarks run no others. */
export interface Programs {
  readonly coppice: string;
  readonly control: string;
  readonly agent: string;
}

/** The programs of the tree that `npm run build && sh deploy/package` lays out, or of COPPICE_TREE. */
export function findPrograms(): Programs {
  const tree = process.env["COPPICE_TREE"] ?? join(root, "build/tree");
  const bin = join(tree, "usr/bin");
  if (!existsSync(join(bin, "coppice-agent"))) {
    throw new Error(`no programs in ${tree}: run npm run build && sh deploy/package`);
  }
  return {
    coppice: join(bin, "coppice"),
    control: join(bin, "coppice-control"),
    agent: join(bin, "coppice-agent"),
  };
}
