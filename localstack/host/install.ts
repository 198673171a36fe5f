/**
 * Installs LocalStack and moto where they are missing: `npm test` does so beside its first suites. Writes one line to its output, which
 * tells how long it took; ends with 1, and the reason, where it cannot.
 */
import { ensureLocalstack, ensureMoto } from './start.ts';

const began = Date.now();
try {
  await ensureMoto();
  await ensureLocalstack();
  const seconds = Math.round((Date.now() - began) / 1000);
  console.log(seconds > 5 ? `cold: LocalStack and moto were installed meanwhile, in ${seconds} s` : 'warm: LocalStack and moto were there');
} catch (error) {
  console.error((error as Error).message);
  console.log('LocalStack and moto could not be installed');
  process.exitCode = 1;
}
