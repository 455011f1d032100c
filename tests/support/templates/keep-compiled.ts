import { flushCompileCache } from "node:module";
import { afterAll } from "vitest";

// Vitest ends its processes by a signal, at which nothing of what they have compiled would be kept for the next one.
afterAll(() => flushCompileCache());
