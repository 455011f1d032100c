import { parseSync, Visitor } from "oxc-parser";

/** One import, export-from, dynamic import or `import("x").T`; no specifier where it is computed. */
export interface Import {
  readonly specifier: string | undefined;
  /** Names that are taken out of the module; empty for whole modules. */
  readonly names: readonly string[];
}

/** What the rules need to know of one source file. */
export interface Source {
  /** From the root of the tree, with slashes. */
  readonly path: string;
  readonly lines: number;
  readonly beginsWithComment: boolean;
  readonly imports: readonly Import[];
  /** Things that some rule forbids somewhere: `Date.now`, `new Date()`, `test.skip`, `as unknown as`, `vi.mock` … */
  readonly uses: ReadonlySet<string>;
  readonly strings: ReadonlySet<string>;
}

const testRoots = new Set(["test", "it", "describe", "suite", "context"]);

/** Reads a source file's facts out of its syntax tree; throws when it cannot be parsed. */
export function parseSource(path: string, text: string): Source {
  const { program, module, errors } = parseSync(path, text);
  if (errors.length > 0)
    throw new Error(`${path} cannot be parsed: ${errors.map(({ message }) => message).join("; ")}`);
  const uses = new Set<string>();
  const strings = new Set<string>();
  const imports: Import[] = [
    ...module.staticImports.map(({ moduleRequest, entries }) => ({
      specifier: moduleRequest.value,
      names: entries.map(({ importName }) => importName.name ?? "*"),
    })),
    ...module.staticExports
      .flatMap(({ entries }) => entries)
      .flatMap(({ moduleRequest, importName }) =>
        moduleRequest ? [{ specifier: moduleRequest.value, names: [importName.name ?? "*"] }] : [],
      ),
  ];
  new Visitor({
    ImportExpression({ source }) {
      const specifier = source.type === "Literal" && typeof source.value === "string" ? source.value : undefined;
      imports.push({ specifier, names: ["*"] });
    },
    TSImportType({ source, qualifier }) {
      imports.push({ specifier: source.value, names: [qualifier?.type === "Identifier" ? qualifier.name : "*"] });
    },
    CallExpression({ callee }) {
      if (callee.type === "Identifier" && (callee.name === "require" || callee.name === "createRequire"))
        uses.add("require");
    },
    MemberExpression({ object, property, computed }) {
      const name = !computed && property.type === "Identifier" ? property.name : undefined;
      if (object.type === "Identifier") {
        if (object.name === "process" || object.name === "crypto") uses.add(object.name);
        if (name !== undefined) uses.add(`${object.name}.${name}`);
      }
      if (name === "skip" || name === "only" || name === "todo") {
        let root = object;
        while (root.type === "MemberExpression") root = root.object;
        if (root.type === "Identifier" && testRoots.has(root.name)) uses.add(`test.${name}`);
      }
    },
    NewExpression({ callee, arguments: given }) {
      if (callee.type === "Identifier" && callee.name === "Date" && given.length === 0) uses.add("new Date()");
    },
    TSAsExpression({ expression }) {
      if (expression.type === "TSAsExpression" && expression.typeAnnotation.type === "TSUnknownKeyword") {
        uses.add("as unknown as");
      }
    },
    Literal({ value }) {
      if (typeof value === "string") strings.add(value);
    },
  }).visit(program);
  return {
    path,
    lines: text.split("\n").length - (text.endsWith("\n") ? 1 : 0),
    beginsWithComment: /^(#!.*\n)?\s*\/[/*]/.test(text),
    imports,
    uses,
    strings,
  };
}
