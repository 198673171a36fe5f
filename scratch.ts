const t0=performance.now(); const t=(s:string)=>console.log(s,(performance.now()-t0).toFixed(0));
const { startInProcess } = await import('./src/cluster/in-process.ts'); t('import');
const { pino } = await import('pino');
const { resources } = await import('./src/api/generated/resources.ts');
const N=Number(process.argv[2]??2);
for (let round=0; round<2; round++) {
const s0=performance.now();
const c = await startInProcess({ name:'t', nodes:N, instanceType:'m5.large', region:'us-east-1', zones:['us-east-1a','us-east-1b'], accountId:'000000000000', behaviours:[], nodeLabels:{}, nodeTaints:[], tuning:{}, log: pino({level: process.env.LOG??'warn'}) });
t('started');
for(;;){ const l=await c.client.list(resources.nodes); const r=l.items.filter(n=>n.status?.conditions?.some(c=>c.type==='Ready'&&c.status==='True')&&!n.spec.taints?.length&&n.spec.podCIDR); if(r.length===N)break; await new Promise(r=>setTimeout(r,10)); }
t('nodes ready');
await c.client.create(resources.deployments, {metadata:{name:'web',namespace:'default'},spec:{replicas:3,selector:{matchLabels:{a:'b'}},template:{metadata:{labels:{a:'b'}},spec:{containers:[{name:'c',image:'nginx'}]}}}} as never);
for(;;){ const d=await c.client.get(resources.deployments,{name:'web',namespace:'default'}); if(d.status?.availableReplicas===3)break; await new Promise(r=>setTimeout(r,10)); }
t('deployment available');
console.log('total', performance.now()-s0, process.memoryUsage().rss/1e6);
if (process.env.SHOW) console.log(JSON.stringify((await c.client.list(resources.pods)).items[0]?.status,null,1));
await c.stop(); t('stopped');
}
