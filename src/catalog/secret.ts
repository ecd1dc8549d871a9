import { z } from 'zod'
import { parseDuration } from '../encoding/duration.ts'
import type { ChaperoneError } from '../errors.ts'

/** How long a value that was read is used before it is read again. */
const REFRESH = { shortestMs: 1_000, longestMs: 24 * 3_600_000 }

const absolute = (text: string) => text.startsWith('/')

/**
 * Variables that are Chaperone's own: what it or its libraries read for themselves, some of which hold passwords, keys or
 * tokens (a store's, a proxy's, a registry's, the cloud account of the machine). Whoever may name secrets for upstreams must
 * not be able to send those to one.
 */
export const isOwnVariable = (name: string): boolean => /^(CHAPERONE|NODE|NPM|AWS|OTEL)_|^PGPASS|_PROXY$/i.test(name)

/** `kind: secret`: a secret that is kept elsewhere. Other documents name it as they name a sealed one: `{ secret: NAME }`. */
export const secretSpec = z.strictObject({
  from: z
    .union([
      z.strictObject({
        file: z
          .string()
          .max(4096)
          .refine(absolute, 'write the whole path, from / on')
          .describe(
            'a file on the machine of the server, outside its data directory, that only its user (or root) can write and not everybody can read',
          ),
      }),
      z.strictObject({
        env: z
          .string()
          .regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/, 'write the name of a variable')
          .refine((name) => !isOwnVariable(name), "this variable is Chaperone's own: set the value under another name where the server is started")
          .describe("a variable of the server's own environment, as it was at its start"),
      }),
      z.strictObject({
        command: z
          .array(z.string().max(4096))
          .min(1)
          .max(64)
          .refine(([program = '']) => absolute(program), 'write the whole path of the program, from / on')
          .describe(
            'a program and its arguments, never a shell line; what it prints is the value. It runs as the server itself, with nothing in its environment but PATH',
          ),
      }),
    ])
    .describe('where the value is: exactly one of `file`, `env`, `command`'),
  refresh: z
    .string()
    .default('5m')
    .superRefine((text, context) => {
      try {
        const ms = parseDuration(text)
        if (ms < REFRESH.shortestMs || ms > REFRESH.longestMs) context.addIssue({ code: 'custom', message: 'write a time between 1s and 24h' })
      } catch (error) {
        const { message, fix } = error as ChaperoneError
        context.addIssue({ code: 'custom', message: [message, fix].filter(Boolean).join(' ') })
      }
    })
    .describe('how long a value that was read is used before it is read again'),
})

export type SecretSpec = z.infer<typeof secretSpec>
