import type { Part } from "./parts.ts";

/** The stack of a command, as far as it is needed here. */
interface Signed {
  readonly middlewareStack: {
    add(
      middleware: <A extends { request: unknown }, R>(next: (args: A) => Promise<R>) => (args: A) => Promise<R>,
      options: { step: "build"; name: string },
    ): void;
  };
}

/**
 * Says what the signature covers of a body that was digested on its way in: its SHA-256, or nothing where TLS protects
 * it, so that it is not read once more.
 */
export function signBody(command: Signed, { sha256 = "UNSIGNED-PAYLOAD" }: Pick<Part, "sha256">): void {
  command.middlewareStack.add(
    (next) => (args) => {
      const headers: unknown = typeof args.request === "object" && args.request && Reflect.get(args.request, "headers");
      if (typeof headers === "object" && headers) Reflect.set(headers, "x-amz-content-sha256", sha256);
      return next(args);
    },
    { step: "build", name: "signBody" },
  );
}
