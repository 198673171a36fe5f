import { spawn } from 'node:child_process';

/** Runs one nftables transaction: all of it takes effect, or none. Rejects with nft's own words. */
export function applyNft(text: string, timeoutMs = 30_000): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn('nft', ['-f', '-'], { stdio: ['pipe', 'ignore', 'pipe'], timeout: timeoutMs });
    let errors = '';
    child.stderr.on('data', (chunk) => {
      errors = (errors + chunk).slice(0, 4000);
    });
    child.on('error', (error) => reject(new Error(`cannot run nft: ${error.message}`)));
    child.on('close', (code, signal) => {
      if (code === 0) resolve();
      else reject(new Error(`nft ${signal ? `was killed by ${signal}` : `failed (${code})`}: ${errors.trim()}`));
    });
    child.stdin.on('error', () => {});
    child.stdin.end(text);
  });
}
