import { posix } from "node:path";
import {
  drawerNames,
  drawerWords,
  fileLines,
  folderFiles,
  forbiddenUses,
  impureKit,
  impureUses,
  namedOnPurpose,
  oneCaseAFile,
  packageRules,
  programs,
  purePackages,
  purePlaces,
  pureTypes,
} from "./architecture.rules.ts";
import type { Import, Source } from "./architecture.source.ts";

/** `cli/src/run` holds `cli/src/run.ts` and everything under `cli/src/run/`. */
function isIn(path: string, place: string): boolean {
  return path === `${place}.ts` || path.startsWith(`${place}/`);
}

const isTest = (path: string) => path.endsWith(".test.ts");
const programOf = (path: string) => Object.keys(programs).find((program) => path.startsWith(`${program}/`));

/** The folder of a program's source (`storage`), or the file beside main (`main`), told apart by `isFile`. */
function partOf(path: string): { name: string; isFile: boolean } {
  const [, , first = "", second] = path.split("/");
  return { name: first.replace(/(\.test)?\.ts$/, ""), isFile: second === undefined };
}

/** The path in the tree that a relative import means; undefined for packages. */
function targetOf(source: Source, { specifier }: Import): string | undefined {
  return specifier?.startsWith(".") ? posix.join(posix.dirname(source.path), specifier) : undefined;
}

/** What is wrong with the imports of one source file, a sentence each. */
export function checkImports(source: Source): string[] {
  const { path } = source;
  return source.imports.flatMap((imported) => {
    if (imported.specifier === undefined) return [`${path} imports a module whose name is computed`];
    return [
      ...checkReach(source, imported, imported.specifier),
      ...(isTest(path) ? [] : [...checkPackage(path, imported, imported.specifier), ...checkPure(source, imported)]),
    ];
  });
}

function checkReach(source: Source, imported: Import, specifier: string): string[] {
  const { path } = source;
  const refused = (why: string) => [`${path} imports ${specifier}: ${why}`];
  const program = programOf(path);
  const isKit = path.startsWith("proto/kit/");
  if (specifier.startsWith("@coppice/") && !/^@coppice\/proto\/(kit|gen)\//.test(specifier)) {
    return refused("programs do not import each other");
  }
  const target = targetOf(source, imported);
  if (target === undefined || !(program || isKit)) return [];
  if (isKit) {
    return /^proto\/(kit|gen)\//.test(target) ? [] : refused("the kit imports only itself and generated code");
  }
  // Tests beside the files run on the same real servers and folders as those under tests/.
  if (isTest(path) && target.startsWith("tests/support/")) return [];
  if (!target.startsWith(`${program}/src/`))
    return refused("a program imports only its own files, and the rest as @coppice/proto");
  return isTest(path) ? [] : checkFolders(path, target).flatMap(refused);
}

function checkFolders(path: string, target: string): string[] {
  const rules = programs[programOf(path) ?? ""];
  const from = partOf(path);
  const to = partOf(target);
  if (!rules || from.isFile || (!to.isFile && from.name === to.name)) return [];
  if (to.isFile) return rules.openFiles.includes(to.name) ? [] : [`folders do not import ${to.name}, it composes them`];
  const allowed = rules.folders[from.name];
  if (!allowed) return [`folder ${from.name} is not in the table of tests/architecture.rules.ts`];
  return allowed.includes(to.name) ? [] : [`${from.name} may import ${allowed.join(", ") || "no other folder"}`];
}

function checkPackage(path: string, { names }: Import, specifier: string): string[] {
  if (!programOf(path) && !path.startsWith("proto/kit/")) return [];
  return packageRules
    .filter((rule) => rule.packages.test(specifier) && (!rule.name || names.includes(rule.name) || names.includes("*")))
    .filter((rule) => !rule.places.some((place) => isIn(path, place)))
    .map((rule) => `${path} imports ${rule.name ?? specifier}: only ${rule.places.join(", ")} may`);
}

function checkPure(source: Source, imported: Import): string[] {
  if (!purePlaces.some((place) => isIn(source.path, place))) return [];
  const specifier = imported.specifier ?? "";
  const target = targetOf(source, imported);
  // The kit names its own files by their paths, everybody else as a package.
  const packaged = target === undefined ? specifier : `@coppice/${target.replace(/\.ts$/, "")}`;
  const isPure =
    (purePackages.test(packaged) && !impureKit.test(packaged)) ||
    (target !== undefined && [...purePlaces, ...pureTypes].some((place) => isIn(target, place)));
  return isPure ? [] : [`${source.path} is pure and imports ${specifier}`];
}

/** What is wrong with how one source file is written. */
export function checkSource(source: Source): string[] {
  const { path, lines, uses, beginsWithComment } = source;
  const wrong: string[] = [];
  if (lines > fileLines.most) wrong.push(`${path} has ${lines} lines, more than ${fileLines.most}`);
  else if (lines > fileLines.explained && !beginsWithComment) {
    wrong.push(`${path} has ${lines} lines and no first comment that says why it is one thing`);
  }
  if (!isTest(path) && purePlaces.some((place) => isIn(path, place))) {
    for (const use of impureUses) if (uses.has(use)) wrong.push(`${path} is pure and uses ${use}`);
  }
  for (const use of forbiddenUses) if (uses.has(use)) wrong.push(`${path} uses ${use}`);
  // Bundles and installed trees cannot follow it.
  if (uses.has("require") && (programOf(path) || path.startsWith("proto/kit/"))) wrong.push(`${path} uses require`);
  return wrong;
}

/** What is wrong with the names and the sizes of folders, given the paths of all files. */
export function checkPaths(paths: readonly string[]): string[] {
  const nodes = new Set(
    paths.flatMap((path) => path.split("/").map((_, index, parts) => parts.slice(0, index + 1).join("/"))),
  );
  const misnamed = [...nodes].filter((node) => {
    const name = posix.basename(node).replace(/\..*$/, "");
    const isDrawer = drawerNames.includes(name) || name.split(/[-_]/).some((word) => drawerWords.includes(word));
    return isDrawer && !namedOnPurpose.includes(node);
  });
  const counts = new Map<string, number>();
  for (const path of paths) {
    if (/\.(ts|proto)$/.test(path) && !isTest(path)) {
      counts.set(posix.dirname(path), (counts.get(posix.dirname(path)) ?? 0) + 1);
    }
  }
  return [
    ...misnamed.map((node) => `${node} is named for a drawer`),
    ...[...counts]
      .filter(([folder, count]) => count > folderFiles && !oneCaseAFile.includes(folder))
      .map(([folder, count]) => `${folder} holds ${count} source files, more than ${folderFiles}`),
  ];
}

/** The kit's files that fewer than two programs use, directly or through another file of the kit. */
export function checkKitUse(sources: readonly Source[]): string[] {
  const kit = sources.filter(({ path }) => path.startsWith("proto/kit/") && !isTest(path));
  const users = new Map(kit.map(({ path }) => [path, new Set<string>()]));
  const use = (path: string, program: string): void => {
    const known = users.get(path);
    if (!known || known.has(program)) return;
    known.add(program);
    const source = kit.find((other) => other.path === path);
    for (const imported of source?.imports ?? []) use(targetOf(source as Source, imported) ?? "", program);
  };
  for (const { path, imports } of sources) {
    const program = programOf(path);
    if (!program || isTest(path)) continue;
    for (const { specifier } of imports) {
      const file = /^@coppice\/proto\/kit\/(.+)$/.exec(specifier ?? "")?.[1];
      if (file !== undefined) use(`proto/kit/${file}.ts`, program);
    }
  }
  return [...users]
    .filter(([, programs]) => programs.size < 2)
    .map(
      ([path, programs]) => `${path} is used by ${[...programs].join() || "no program"}, the kit is for what two need`,
    );
}

/** Packages that a source imports and that its workspace's package.json does not declare. */
export function checkDeclared(source: Source, declared: ReadonlySet<string>): string[] {
  const packages = source.imports
    .flatMap(({ specifier }) =>
      specifier === undefined || /^(\.|node:|@coppice\/proto\/)/.test(specifier) ? [] : [specifier],
    )
    .map((specifier) =>
      specifier
        .split("/")
        .slice(0, specifier.startsWith("@") ? 2 : 1)
        .join("/"),
    );
  return [...new Set(packages)]
    .filter((name) => !declared.has(name))
    .map((name) => `${source.path} imports ${name}, which its package.json does not declare`);
}
