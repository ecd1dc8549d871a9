const { NODE_COMPILE_CACHE: cache } = process.env

/**
 * How a thread begins that is to know nothing of ours: no variable of the environment, no option of the process. Only where
 * compiled code is kept: without that each start of a thread from source compiles all that it imports (measured: 0.3 s).
 */
export const BARE_THREAD: { readonly env: NodeJS.ProcessEnv; readonly execArgv: string[] } = {
  env: cache === undefined ? {} : { NODE_COMPILE_CACHE: cache },
  execArgv: [],
}
