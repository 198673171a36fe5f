import { execFile, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';

const table = 'kumulus-fault';

/** The processes of an instance that run its node: kubelet, kube-proxy and DNS are one. */
async function nodeProcesses(namespace: string): Promise<number[]> {
  const output = await run('ip', ['netns', 'pids', namespace]);
  return output
    .split('\n')
    .filter(Boolean)
    .map(Number)
    .filter((pid) => {
      try {
        const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
        const at = words.findIndex((word) => /\/bin\/kumulus\.js$/.test(word));
        return at >= 0 && words[at + 1] === 'node';
      } catch {
        return false;
      }
    });
}

/**
 * Breaks or mends an instance of the data plane. `kubelet`: its node's process is stopped as by SIGSTOP, so that nothing starts it
 * anew. `network`: its network namespace drops every packet but its own.
 */
export async function disturbInstance(namespace: string, what: 'kubelet' | 'network', broken: boolean): Promise<void> {
  if (what === 'kubelet') {
    const pids = await nodeProcesses(namespace);
    if (!pids.length) throw new Error(`no node runs in ${namespace}`);
    for (const pid of pids) process.kill(pid, broken ? 'SIGSTOP' : 'SIGCONT');
    return;
  }
  const chains = ['input', 'output', 'forward']
    .map((hook) => {
      const accept = hook === 'input' ? 'iifname "lo" accept' : hook === 'output' ? 'oifname "lo" accept' : '';
      return `  chain ${hook} {\n    type filter hook ${hook} priority -300; policy drop;\n    ${accept}\n  }`;
    })
    .join('\n');
  const rules = `table inet ${table} {}\ndelete table inet ${table}\n${broken ? `table inet ${table} {\n${chains}\n}\n` : ''}`;
  await run('nsenter', [`--net=/run/netns/${namespace}`, 'nft', '-f', '-'], rules);
}

function run(program: string, args: string[], input?: string): Promise<string> {
  return new Promise((resolve, reject) => {
    if (input === undefined) {
      execFile(program, args, (error, stdout, stderr) =>
        error ? reject(new Error(`${program}: ${stderr.trim() || error.message}`)) : resolve(stdout),
      );
      return;
    }
    const child = spawn(program, args, { stdio: ['pipe', 'ignore', 'pipe'] });
    let words = '';
    child.stderr.on('data', (chunk) => (words += chunk));
    child.on('error', reject);
    child.on('close', (code) => (code === 0 ? resolve('') : reject(new Error(`${program}: ${words.trim()}`))));
    child.stdin.end(input);
  });
}
