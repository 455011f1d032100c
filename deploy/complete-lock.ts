import { readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";

// npm ci of npm 11 wants every optional package of every platform in package-lock.json, but npm install writes down
// only those that its registry could show it, and not every mirror holds all of them. This adds the ones that are
// missing, as far as their names tell: none is for a platform that Coppice runs on, so none is ever fetched.
// Run it after npm install: sh deploy/node deploy/complete-lock.ts

interface LockedPackage {
  version?: string;
  dev?: boolean;
  os?: string[];
  cpu?: string[];
  libc?: string[];
  optional?: boolean;
  optionalDependencies?: Record<string, string>;
}

const exact = /^\d+\.\d+\.\d+/;
const supported = /linux-(x64|arm64)(-gnu)?$/;
const systems = ["aix", "android", "darwin", "freebsd", "linux", "netbsd", "openbsd", "openharmony", "sunos", "win32"];
const processors = ["arm64", "ia32", "loong64", "mips64el", "ppc64", "riscv64", "s390x", "wasm32", "x64", "arm"];

function stub(name: string, version: string, isDev: boolean): LockedPackage {
  if (!exact.test(version)) throw new Error(`${name} is wanted as ${version}, which names no version`);
  if (supported.test(name)) throw new Error(`${name} ${version} is needed and the registry does not have it`);
  const parts = name.replace("windows", "win32").split(/[-/]/);
  const os = systems.filter((system) => parts.includes(system));
  const cpu = processors.filter((processor) => parts.some((part) => part.startsWith(processor))).slice(0, 1);
  if (os.length + cpu.length === 0) throw new Error(`the name of ${name} tells no platform`);
  return {
    version,
    ...(cpu.length > 0 && { cpu }),
    ...(isDev && { dev: true }),
    ...(parts.some((part) => part.startsWith("musl")) && { libc: ["musl"] }),
    optional: true,
    ...(os.length > 0 && { os }),
  };
}

/** Where Node would find the package when one in `from` asks for it. */
function resolve(packages: Record<string, LockedPackage>, from: string, name: string): string | undefined {
  for (let folder = from; ;) {
    const path = join(folder, "node_modules", name);
    if (path in packages) return path;
    if (folder === "") return undefined;
    const outer = folder.lastIndexOf("node_modules/");
    folder = outer > 0 ? folder.slice(0, outer - 1) : "";
  }
}

const path = join(dirname(import.meta.dirname), "package-lock.json");
const lock = JSON.parse(await readFile(path, "utf8")) as { packages: Record<string, LockedPackage> };
const added: string[] = [];
for (const [from, { optionalDependencies, dev }] of Object.entries(lock.packages)) {
  for (const [name, version] of Object.entries(optionalDependencies ?? {})) {
    const found = resolve(lock.packages, from, name);
    if (found && (!exact.test(version) || lock.packages[found]?.version === version)) continue;
    const place = join(found ? from : "", "node_modules", name);
    lock.packages[place] = stub(name, version, dev === true);
    added.push(name);
  }
}
const sorted = Object.entries(lock.packages).toSorted(([a], [b]) => (a < b ? -1 : 1));
await writeFile(path, `${JSON.stringify({ ...lock, packages: Object.fromEntries(sorted) }, null, 2)}\n`);
console.log(`complete-lock: ${added.length} added${added.map((name) => `\n  ${name}`).join("")}`);
