/* Made by `npm run build` in samjax/widget/src: change the sources there. */
var z=class{scale=1;x=0;y=0;fitted=!0;fit(t,e,s,o){let n=Math.min(12,s/20);this.scale=Math.min((s-2*n)/t,(o-2*n)/e),this.
scale=Math.max(this.scale,.001),this.x=(s-t*this.scale)/2,this.y=(o-e*this.scale)/2,this.fitted=!0}frame([t,e,s,o],n,r){
let[a,l]=[Math.max(s-t,16),Math.max(o-e,16)],h=Math.min(n/a,r/l)/4;this.scale=Math.max(this.scale,Math.min(4,h)),this.x=
n/2-(t+s)/2*this.scale,this.y=r/2-(e+o)/2*this.scale,this.fitted=!1}toCss([t,e]){return[(t+.5)*this.scale+this.x,(e+.5)*
this.scale+this.y]}toPixel([t,e]){return[(t-this.x)/this.scale-.5,(e-this.y)/this.scale-.5]}zoom(t,[e,s],o){let n=Math.min(
40,Math.max(o,this.scale*t));this.x=e-(e-this.x)*n/this.scale,this.y=s-(s-this.y)*n/this.scale,this.scale=n,this.fitted=
!1}move(t,e){this.x+=t,this.y+=e,this.fitted=!1}hold(t,e,s,o){this.x=Math.min(s-40,Math.max(40-t*this.scale,this.x)),this.
y=Math.min(o-40,Math.max(40-e*this.scale,this.y))}};function P([i,t],{width:e,height:s}){return i>=-.5&&t>=-.5&&i<=e-.5&&
t<=s-.5}function j([i,t],{width:e,height:s}){let o=(n,r)=>Math.min(r-1,Math.max(0,Math.round(n)));return[o(i,e),o(t,s)]}
function L([i,t]){return[Math.round(i*100)/100,Math.round(t*100)/100]}function _(i,t){return[Math.min(i[0],t[0]),Math.min(
i[1],t[1]),Math.max(i[0],t[0]),Math.max(i[1],t[1])]}var U=class{#t=null;#e=0;#s=0;constructor(t){this.page=t}get sliding(){return this.#t!==null}forget(){this.#t=null}answered(t){
if(t.request!==this.#t)return;this.#t=null,this.#e!==this.#s&&t.status.level!=="error"&&this.slide(this.#e)}settle(){this.#t!==
null&&this.#e!==this.#s&&this.#i()}#i(){this.#s=this.#e,this.#t=this.page.kernel.send("set_threshold",{threshold:this.#e})}click(t,e){
let{state:s,automatic:o,kernel:n}=this.page,{image:r}=s;if(!r||!s.usable||!P(t,r))return;if(o.choosing){let h=o.at(t);h&&
n.send("pick",{index:h-1});return}let[a,l]=j(t,r);this.#o({kind:"point",point:[a,l],label:e}),n.send("click",{x:a,y:l,label:e})}lasso(t,e){
if(t.length<4){this.click(e,1);return}let s=this.page.automatic.inside(t);s.length?this.page.kernel.send("pick_many",{indices:s}):
this.page.say("No automatic masks inside of the lasso")}box(t){let[e,s,o,n]=t;this.#o({kind:"box",box:t});let{mode:r,separate:a}=this.
page.state;this.page.kernel.send("box",{x0:e,y0:s,x1:o,y1:n,new:r==="box"&&a})}stroke(t,e,s){if(!s&&!this.page.state.active){
this.page.say("Nothing to erase from: select an object first","error");return}this.#o({kind:"stroke",points:t,radius:e,add:s}),
this.page.kernel.send("brush",{points:t,radius:e,add:s})}#o(t){this.page.hover.forget(),this.page.state.marks.push(t),this.
page.decoder.foresee(t),this.page.painter.paint()}slide(t){this.page.state.told&&(this.#e=t,this.#t===null&&this.#i())}walk(t){
let{told:e}=this.page.state,s=e?.objects.map(a=>a.id)??[];if(!e||!s.length)return;let o=e.active===null?-1:s.indexOf(e.active),
n=t>0?0:s.length-1,r=o<0?n:o+t;r>=0&&r<s.length?this.select(s[r]):this.page.kernel.send("new_object")}select(t){this.page.
state.selected.clear(),this.page.kernel.send("select",{object_id:t})}toggle(t){let{told:e,selected:s}=this.page.state;e?.
active===null&&!s.size?this.select(t):!s.delete(t)&&t!==e?.active&&s.add(t),this.page.refresh(),this.page.painter.paint()}selectAt(t,e){
let{state:s,kernel:o}=this.page,n=s.objectAt(t);return n&&e?this.toggle(n.id):n&&n.id!==s.told?.active?this.select(n.id):
!n&&!e&&s.active&&o.send("new_object"),!n&&!e&&s.selected.clear(),n!==null}combine(t){let{state:e,kernel:s}=this.page;if(e.
chosen.length<2){this.page.say("Select two objects or more: click on the others with Shift","error");return}s.send(t,{object_ids:e.
chosen}),e.selected.clear()}toggleShown(t,e){t.delete(e)||t.add(e),this.page.refresh(),this.page.painter.paint()}toggleAll(){
let{hidden:t,hiddenClasses:e,told:s}=this.page.state;if(t.size||e.size)t.clear(),e.clear();else for(let{id:o}of s?.objects??
[])t.add(o)}nextCandidate(){let t=this.page.state.told?.candidates;t&&this.page.kernel.send("choose",{index:(t.rank+1)%t.
scores.length})}classAt(t){let e=this.page.state.told?.classes[t];e&&this.page.kernel.send("label",{name:e})}};function c(i,t="",e={},s=[]){let o=document.createElement(i);t&&(o.className=t);for(let[n,r]of Object.entries(e))o.setAttribute(
n,String(r));return o.append(...s),o}function S(i){let t=i.getContext("2d");if(!t)throw new Error("the browser gives no \
2D canvas");return t}function E(i,t,{min:e,max:s,step:o,value:n},r){let a=c("input",i,{type:"range",min:e,max:s,step:o,"\
aria-label":t});a.value=String(n);let l=c("output","",{},[String(n)]);return a.addEventListener("input",()=>{l.textContent=
a.value,r(Number(a.value))}),{row:c("label","samjax-slider",{},[c("span","",{},[t]),a,l]),set:p=>{a.matches(":active")||
(a.value=String(p),l.textContent=String(p))},from:p=>a.setAttribute("min",String(p))}}function $(i,t,e,s,o){let n=new Map;
for(let a of i.children)n.set(a.dataset.key,a);let r=i.firstElementChild;for(let a of t){let l=e(a),h=n.get(l);n.delete(
l),h||(h=s(a),h.dataset.key=l),h===r?r=r.nextElementSibling:i.insertBefore(h,r),o(h,a)}for(let a of n.values())a.remove()}
function g(i,t){i.textContent!==t&&(i.textContent=t)}function dt(i){let t=i;for(;t;){let e=getComputedStyle(t).backgroundColor.
match(/[\d.]+/g)?.map(Number)??[];if(e.length>=3&&(e.length===3||e[3]>.5)){let[o,n,r]=e;return .299*o+.587*n+.114*r<128?
"dark":"light"}let s=t.getRootNode();t=t.parentElement??(s instanceof ShadowRoot?s.host:null)}return matchMedia("(prefer\
s-color-scheme: dark)").matches?"dark":"light"}function C(i){let t=ArrayBuffer.isView(i)?i:new Uint8Array(i),{byteOffset:e,byteLength:s}=t;return new Uint32Array(t.buffer.
slice(e,e+s))}function ut(i,t,e){let s=Array.from({length:e},()=>[]),o=0;for(let n=0;n<i.length;n++){let r=o+i[n];if(n%2)
for(let a=o;a<r;){let l=Math.floor(a/t),h=Math.min(r,(l+1)*t);s[l].push(a-l*t,h-l*t),a=h}o=r}return s}function pt(i){let t=null;
for(let e=0;e<i.length;e++){let s=i[e];if(!s.length)continue;let o=s[s.length-1];t=t?[Math.min(t[0],s[0]),t[1],Math.max(
t[2],o),e+1]:[s[0],e,o,e+1]}return t}function qt(i,t){let e=[],s=0,o=0;for(;s<i.length||o<t.length;){let n=s<i.length?i[s]:
Number.POSITIVE_INFINITY,r=o<t.length?t[o]:Number.POSITIVE_INFINITY;n!==r&&e.push(Math.min(n,r)),n<=r&&s++,r<=n&&o++}return e}
function B(i,t){let e=new Map,s=[];for(let o=0;o<=i.length;o++){let n=i[o]??[];if(!n.length&&!s.length)continue;let r=qt(
s,n);for(let l=0;l<r.length;l+=2)t(r[l],o,r[l+1],o);let a=new Set(n);for(let[l,h]of e)a.has(l)||(t(l,h,l,o),e.delete(l));
for(let l of n)e.has(l)||e.set(l,o);s=n}}function ft(i,t,e,s){let o=new Uint16Array(e*s),n=t.map((r,a)=>a).sort((r,a)=>t[a]-
t[r]);for(let r of n){let a=i[r],l=0;for(let h=0;h<a.length;h++)h%2&&o.fill(r+1,l,l+a[h]),l+=a[h]}return o}function mt(i,t,e){
let s=i[e];if(!s)return!1;let o=0;for(;o<s.length&&s[o]<=t;)o++;return o%2===1}function gt(i){let t=0;for(let e of i)for(let s=0;s<
e.length;s+=2)t+=e[s+1]-e[s];return t}function lt(i){return new Uint32Array(new Uint8Array([...i,255]).buffer)[0]}var x=class{#t;#e;#s="";#i;constructor(t,e,s){
this.rows=ut(t,e,s),this.box=pt(this.rows),this.width=e,this.height=s}get area(){return this.#i??=gt(this.rows),this.#i}at(t,e){
return mt(this.rows,Math.floor(t*this.width),Math.floor(e*this.height))}get outline(){if(!this.#t){let t=new Path2D;B(this.
rows,(e,s,o,n)=>{t.moveTo(e,s),t.lineTo(o,n)}),this.#t=t}return this.#t}fill(t){if(!this.box)return null;let e=t.join();
if(this.#e&&this.#s===e)return this.#e;let[s,o,n,r]=this.box,a=document.createElement("canvas");a.width=n-s,a.height=r-o;
let l=S(a),h=l.createImageData(a.width,a.height),d=new Uint32Array(h.data.buffer),u=lt(t);for(let p=o;p<r;p++){let f=this.
rows[p],m=(p-o)*a.width-s;for(let b=0;b<f.length;b+=2)d.fill(u,m+f[b],m+f[b+1])}return l.putImageData(h,0,0),this.#s=e,this.#e=
a,a}};function wt(i){let t=[new Map,new Map];B(i,(n,r,a,l)=>{let h=r===l?0:1;t[h].set(`${n},${r}`,[a,l]),t[h].set(`${a},${l}`,
[n,r])});let e=[],[s,o]=t;for(let n of s.keys()){let r=[],a=n;for(;s.has(a);){let l=s.get(a);s.delete(a),s.delete(l.join());
let h=o.get(l.join());r.push(l,h),a=h.join()}r.length&&e.push(r)}return e}function kt(i,t){if(i.length<5)return i;let e=0;
for(let r=1;r<i.length;r++)ht(i[r],i[0])>ht(i[e],i[0])&&(e=r);let s=bt(i.slice(0,e+1),t),o=bt([...i.slice(e),i[0]],t),n=[
...s.slice(0,-1),...o.slice(0,-1)];return n.length<3?i:n}function bt(i,t){let e=new Uint8Array(i.length);e[0]=e[i.length-
1]=1;let s=[[0,i.length-1]];for(let o=s.pop();o;o=s.pop()){let[n,r]=o,a=t,l=-1;for(let h=n+1;h<r;h++){let d=vt(i[h],i[n],
i[r]);d>a&&(a=d,l=h)}l<0||(e[l]=1,s.push([n,l],[l,r]))}return i.filter((o,n)=>e[n])}function ht(i,t){return Math.hypot(i[0]-
t[0],i[1]-t[1])}function vt([i,t],e,s){let[o,n]=[s[0]-e[0],s[1]-e[1]],r=o*o+n*n,a=r?((i-e[0])*o+(t-e[1])*n)/r:0,l=Math.min(
1,Math.max(0,a));return Math.hypot(i-e[0]-l*o,t-e[1]-l*n)}function xt(i,t,e,s){let o=e,n=null;return i.forEach((r,a)=>{r.
forEach((l,h)=>{let d=ht(l,t);d>o||(o=d,n={ring:a,vertex:h,edge:!1})})}),n||(o=s,i.forEach((r,a)=>{r.forEach((l,h)=>{let d=vt(
t,l,r[(h+1)%r.length]);d>o||(o=d,n={ring:a,vertex:h,edge:!0})})}),n)}function yt(i,[t,e]){let s=!1;return i.forEach(([o,
n],r)=>{let[a,l]=i[(r+1)%i.length];n>e!=l>e&&t<(a-o)*(e-n)/(l-n)+o&&(s=!s)}),s}function Vt(i){let t=i*137.508%360,e=s=>{let o=(s+t/30)%12;return Math.round(255*(.58-.38*Math.max(-1,Math.min(o-3,9-o,1))))};
return[e(0),e(8),e(4)]}var D=class{floor=0;#t=c("span");#e=E("samjax-score","IoU from",{min:0,max:1,step:.01,value:0},t=>{
this.floor=t,this.#i(),this.page.painter.paint()});node=c("div","samjax-automatic",{hidden:""},[this.#e.row,this.#t]);#s=c(
"input","samjax-filter",{type:"search",placeholder:"find: a dog . a cat .","aria-label":"Find what phrases name, separat\
ed by dots"});field=c("form","samjax-find",{hidden:""},[this.#s]);picking=!1;pointed=0;loaded=null;constructor(t){this.page=
t,this.field.addEventListener("submit",e=>{e.preventDefault();let s=this.#s.value.trim();!s||!t.state.usable||t.state.told?.
automatic!==null||(this.picking=!0,t.kernel.send("find",{text:s}),t.focus())}),this.#s.addEventListener("keydown",e=>e.key===
"Escape"&&t.focus())}get choosing(){return this.picking?this.here:null}get here(){return this.loaded&&this.loaded.index===
this.page.state.image?.index?this.loaded:null}toggle(){let{state:t,kernel:e}=this.page;this.choosing?this.picking=!1:this.
here?this.picking=!0:t.usable&&t.told?.automatic===null&&(this.picking=!0,e.send("automatic"))}leave(){this.picking=!1,this.
pointed=0}answered({status:t,automatic:e}){t.level==="error"&&e===null&&!this.here&&(this.picking=!1)}receive(t,e){let s=this.
loaded;this.loaded=this.load(t,C(e)),this.loaded.runs.length||(this.picking=!1),s?.index===t.index&&String(s.scores)===String(
t.scores)||(this.floor=t.floor),this.#e.from(t.least),this.#e.set(this.floor),this.#i(),this.page.refresh(),this.page.painter.
paint()}load(t,e){let s=0,o=t.runs.map(h=>(s+=h,e.subarray(s-h,s))),[n,r]=t.size,a=document.createElement("canvas");a.width=
r,a.height=n;let l=[];return{...t,runs:o,map:new Uint16Array(0),canvas:a,masks:l}}#i(){let{loaded:t,floor:e}=this;if(!t)
return;let{scores:s,areas:o,canvas:n}=t,r=s.map(f=>f>=e),a=t.runs.map((f,m)=>r[m]?f:[]);t.map=ft(a,o,n.width,n.height);let l=S(
n),h=l.createImageData(n.width,n.height),d=new Uint32Array(h.data.buffer),u=a.map((f,m)=>lt(Vt(m))),{map:p}=t;for(let f=0;f<
p.length;f++)p[f]&&(d[f]=u[p[f]-1]);l.putImageData(h,0,0),g(this.#t,`${r.filter(Boolean).length} of ${s.length} masks`),
this.pointed=0}refresh(){this.node.hidden=!this.choosing,this.field.hidden=!this.page.state.told?.detector}inside(t){let{
here:e}=this,{image:s}=this.page.state;if(!e||!s)return[];let[o,n]=e.size,[r,a]=[s.width/n,s.height/o],l=new Uint32Array(
e.scores.length+1),h=new Uint32Array(e.scores.length+1),d=Math.max(1,Math.round(Math.max(n,o)/512));for(let u=0;u<o;u+=d)
for(let p=0;p<n;p+=d){let f=e.map[u*n+p];if(!f)continue;l[f]++;let m=[(p+.5)*r-.5,(u+.5)*a-.5];yt(t,m)&&h[f]++}return e.
scores.flatMap((u,p)=>h[p+1]>.6*l[p+1]?[p]:[])}at([t,e]){let{here:s}=this,{image:o}=this.page.state;if(!s||!o)return 0;let[
n,r]=s.size,a=Math.floor((t+.5)*r/o.width),l=Math.floor((e+.5)*n/o.height);return l<0||a<0||l>=n||a>=r?0:s.map[l*r+a]}point(t){
let{image:e}=this.page.state,s=t&&e&&P(t,e)?this.at(t):0;if(s===this.pointed)return;this.pointed=s;let o=this.here?.scores[s-
1],n=this.here?.labels[s-1]??`Automatic mask ${s}`;o!==void 0&&this.page.say(`${n}, IoU ${o.toFixed(2)}`),this.page.painter.
paint()}get chosen(){let{here:t,pointed:e}=this;return!t||!e?null:(t.masks[e-1]??=new x(t.runs[e-1],t.size[1],t.size[0]),
t.masks[e-1])}};function Mt(i,t,{points:e,radius:s,add:o},n){i.save(),i.lineCap="round",i.lineJoin="round",i.lineWidth=2*s*t.scale,i.strokeStyle=
o?`rgba(${n}, 0.6)`:"rgba(15, 23, 42, 0.55)",i.beginPath(),i.moveTo(...t.toCss(e[0]));for(let r of e)i.lineTo(...t.toCss(
r));i.stroke(),i.restore()}function jt(i,t,[e,s,o,n]){let[r,a]=t.toCss([e,s]),[l,h]=t.toCss([o,n]);i.save(),i.lineWidth=
3.5,i.strokeStyle="rgba(15, 23, 42, 0.5)",i.strokeRect(r,a,l-r,h-a),i.lineWidth=1.5,i.strokeStyle="#fff",i.setLineDash([
7,4]),i.strokeRect(r,a,l-r,h-a),i.restore()}function St(i,t,e,s){let[o,n]=t.toCss(e),r=a=>{if(i.beginPath(),s)i.arc(o,n,
a,0,2*Math.PI);else{let l=a*1.2;i.moveTo(o,n-l),i.lineTo(o+l,n),i.lineTo(o,n+l),i.lineTo(o-l,n),i.closePath()}};i.save(),
i.shadowColor="rgba(0, 0, 0, 0.45)",i.shadowBlur=4,i.fillStyle="#fff",r(8.5),i.fill(),i.shadowColor="transparent",i.fillStyle=
s?"#16a34a":"#dc2626",r(6.8),i.fill(),i.strokeStyle="#fff",i.lineWidth=1.8,i.beginPath(),i.moveTo(o-3.2,n),i.lineTo(o+3.2,
n),s&&(i.moveTo(o,n-3.2),i.lineTo(o,n+3.2)),i.stroke(),i.restore()}function Et(i,t,e){i.save(),i.beginPath();for(let s of e)
i.lineTo(...t.toCss(s));i.closePath(),i.fillStyle="rgba(255, 255, 255, 0.15)",i.fill(),i.lineWidth=3.5,i.strokeStyle="rg\
ba(15, 23, 42, 0.5)",i.stroke(),i.lineWidth=1.5,i.strokeStyle="#fff",i.setLineDash([7,4]),i.stroke(),i.restore()}function At(i,t,e){
i.save();for(let[s,o]of[["rgba(15, 23, 42, 0.6)",3.5],["#fff",1.5]]){i.strokeStyle=s,i.lineWidth=o,i.beginPath();for(let n of e){
i.moveTo(...t.toCss(n[n.length-1]));for(let r of n)i.lineTo(...t.toCss(r))}i.stroke()}i.fillStyle="#fff",i.strokeStyle="\
rgba(15, 23, 42, 0.8)",i.lineWidth=1.25,i.beginPath();for(let s of e)for(let o of s){let[n,r]=t.toCss(o);i.rect(n-3,r-3,
6,6)}i.fill(),i.stroke(),i.restore()}function Lt(i,[t,e],{ring:s,cross:o}){i.save();for(let[n,r]of[["rgba(15, 23, 42, 0.\
6)",3],["#fff",1.25]]){if(i.strokeStyle=n,i.lineWidth=r,i.beginPath(),s!==null&&i.arc(t,e,s,0,2*Math.PI),o)for(let[a,l]of[
[1,0],[-1,0],[0,1],[0,-1]])i.moveTo(t+4*a,e+4*l),i.lineTo(t+14*a,e+14*l);i.stroke()}i.restore()}var F=[30,144,255],Yt=[59,130,246],Gt=[255,255,255],W=class{#t=null;#e=!1;#s=!0;#i="";#o=[];constructor(t){this.page=t,this.
canvas=t.canvas,this.context=S(t.canvas),this.base=document.createElement("canvas")}get#n(){return this.page.state.fills?
this.page.state.opacity:0}paint(){this.#t??=requestAnimationFrame(()=>this.paintNow())}newImage(){this.#e=!1,this.#s=!0}spoil(){
this.#s=!0}close(){this.#t&&cancelAnimationFrame(this.#t)}paintNow(){this.#t&&cancelAnimationFrame(this.#t),this.#t=null;
let{canvas:t,context:e,page:s}=this,{state:o,view:n}=s,{image:r}=o,a=devicePixelRatio||1,[l,h]=[s.stage.clientWidth,s.stage.
clientHeight];if(!l||!h)return;let[d,u]=[Math.round(l*a),Math.round(h*a)];(t.width!==d||t.height!==u)&&(t.width=d,t.height=
u,this.#s=!0),r&&(n.fitted||!this.#e)&&(n.fit(r.width,r.height,l,h),this.#e=!0),r&&n.hold(r.width,r.height,l,h),this.#r(
d,u,a),e.setTransform(1,0,0,1,0,0),e.clearRect(0,0,d,u),e.drawImage(this.base,0,0),s.zoomText.textContent="",!(!r||!o.told)&&
(e.setTransform(a,0,0,a,0,0),this.#h(),this.#u(),this.#d(),Object.assign(t.dataset,{imageWidth:r.width,imageHeight:r.height,
scale:n.scale,offsetX:n.x+n.scale/2,offsetY:n.y+n.scale/2}),s.zoomText.textContent=`${r.width} x ${r.height}   ${Math.round(
100*n.scale)}%`,s.root.dataset.decoded=String(o.told.replies))}#r(t,e,s){let{base:o,page:n}=this,{state:r,view:a}=n,{image:l}=r,
h=r.held.filter(({each:v})=>v.id!==r.told?.active),d=this.#n*(n.automatic.choosing?.5:1),u=h.map(({each:v,version:R,colour:at})=>[
v.id,R,at,r.selected.has(v.id)].join()),p=[t,e,l?.index,a.scale,a.x,a.y],f=[n.root.dataset.theme,d,r.outlines,r.brightness,
r.contrast],m=[...p,...f].join(),b=m===this.#i&&!this.#s,w=this.#o,k=b&&w.length<=u.length&&w.every((v,R)=>v===u[R]);this.#i=
m,this.#o=u,this.#s=!1;let M=S(o);if(k||(o.width=t,o.height=e,l&&this.#a(M,l,s)),!!l){M.setTransform(s,0,0,s,0,0);for(let{
each:v,mask:R,colour:at}of h.slice(k?w.length:0)){let Ht=r.selected.has(v.id)?{width:3,outline:!0,dash:[7,5]}:{width:1.5};
this.#l(R,at,{context:M,opacity:d,...Ht})}}}#a(t,e,s){let{state:o,view:n}=this.page;t.setTransform(s,0,0,s,0,0),t.imageSmoothingEnabled=
n.scale*s<3,t.imageSmoothingQuality="high";let[r,a]=[e.width*n.scale,e.height*n.scale];t.shadowColor="rgba(0, 0, 0, 0.22\
)",t.shadowBlur=5*s,t.fillStyle="#808080",t.fillRect(n.x+1,n.y+1,r-2,a-2),t.shadowColor="transparent",(o.brightness!==1||
o.contrast!==1)&&(t.filter=`brightness(${o.brightness}) contrast(${o.contrast})`),t.drawImage(e.bitmap,n.x,n.y,r,a),t.filter=
"none"}#l(t,e,s={}){let{state:o,view:n}=this.page,{context:r=this.context,opacity:a=this.#n,width:l=2,dash:h}=s,{outline:d=o.
outlines}=s,{image:u}=o,p=t.fill(e);if(!t.box||!p||!u)return;let[f,m,b,w]=t.box,k=u.width/t.width*n.scale,M=u.height/t.height*
n.scale;if(r.save(),r.translate(n.x,n.y),r.imageSmoothingEnabled=k<1,r.globalAlpha=a,a){let v=[(b-f)*k,(w-m)*M];r.drawImage(
p,f*k,m*M,...v)}d&&(r.scale(k,M),r.lineCap="square",r.globalAlpha=.55,r.strokeStyle="#fff",r.lineWidth=(l+1.5)/k,r.stroke(
t.outline),r.globalAlpha=1,r.strokeStyle=`rgb(${e})`,r.lineWidth=l/k,h&&r.setLineDash(h.map(v=>v/k)),r.stroke(t.outline)),
r.restore()}#h(){let{state:t,automatic:e}=this.page,{choosing:s}=e;if(s){this.#c(s.canvas);let a=e.chosen;a&&this.#l(a,Gt,
{opacity:.35,outline:!0})}let o=t.held.find(({each:a})=>a.id===t.told?.active),{foreseen:n,active:r}=t;if(o&&(!n||n.fresh)&&
this.#l(o.mask,o.colour,{width:2.5}),n){let a=r&&!n.fresh?t.colourOf(r):F;this.#l(n.mask,a,{width:2.5})}t.preview&&!t.marks.
length&&!s&&this.#l(t.preview,Yt,{opacity:.3,width:1.5,outline:!0})}#c(t){let{context:e}=this,{state:s,view:o}=this.page;
if(!s.image)return;e.save(),e.imageSmoothingEnabled=!1,e.globalAlpha=.4;let n=[s.image.width*o.scale,s.image.height*o.scale];
e.drawImage(t,o.x,o.y,...n),e.restore()}#u(){let{context:t}=this,{state:e,view:s,automatic:o,editor:n}=this.page,r=e.active,
{drag:a}=e,l=[...e.marks];if(n.on&&!o.choosing)At(t,s,n.rings);else if(r&&!o.choosing){r.box&&l.push({kind:"box",box:r.box});
for(let[d,u,p]of r.points)l.push({kind:"point",point:[d,u],label:p})}(a?.kind==="click"||a?.kind==="cursor")&&a.box&&l.push(
{kind:"box",box:a.box}),a?.kind==="stroke"&&l.push(a),a?.kind==="lasso"&&a.points.length>1&&Et(t,s,a.points);let h=r?e.colourOf(
r):F;for(let d of l)d.kind==="stroke"&&Mt(t,s,d,h);for(let d of l)d.kind==="box"&&jt(t,s,d.box);for(let d of l)d.kind===
"point"&&St(t,s,d.point,d.label)}#d(){let{state:t,view:e,automatic:s}=this.page,o=t.mode==="brush"||t.mode==="erase",n=t.
cursor?e.toCss(t.cursor):t.mouse;if(!n||s.choosing||!o&&!t.cursor)return;let r=o?t.radius:null;Lt(this.context,n,{ring:r,
cross:!!t.cursor})}};var K=class{node=c("div","samjax-candidates",{role:"group","aria-label":"Masks"});#t=null;constructor(t){this.page=t}forget(){
this.#t=null}refresh(){let{state:t}=this.page,{told:e,thumbnails:s,active:o}=t;if(!e)return;let{candidates:n}=e,r=o?t.colourOf(
o):F,a=n?JSON.stringify([n.scores,n.rank,s?.key,r]):"";if(a===this.#t)return;this.#t=a;let l=Math.max(3,n?.scores.length??
0);$(this.node,Array.from({length:l},(h,d)=>d),h=>`${h}${n&&h<n.scores.length?"":" none"}`,h=>this.#e(h),(h,d)=>{n&&d<n.
scores.length&&this.#s(h,n,d,r)})}#e(t){let e=this.page.state.told?.candidates;if(!e||t>=e.scores.length)return c("div",
"samjax-place");let s=c("button","samjax-candidate",{type:"button","data-candidate":t,title:"Take this mask (M)"},[c("ca\
nvas","",{"aria-hidden":"true"}),c("small")]);return s.addEventListener("click",()=>this.page.kernel.send("choose",{index:t})),
s}#s(t,{scores:e,rank:s},o,n){let[r,a]=t.children,l=e[o].toFixed(2);t.setAttribute("aria-pressed",String(o===s)),t.setAttribute(
"aria-label",`Mask ${o+1} of ${e.length}, IoU ${l}`),g(a,l),this.#i(r,o,n)}#i(t,e,s){let{thumbnails:o,image:n}=this.page.
state;if(!o||e>=o.masks.length)return;let{masks:r,size:a,region:l}=o,[h,d]=a;t.width=d,t.height=h;let u=S(t),[p,f,m,b]=l;
if(n){let M=[p,f,m-p,b-f];u.drawImage(n.bitmap,...M,0,0,d,h)}let w=r[e],k=w.fill(s);!w.box||!k||(u.globalAlpha=.6,u.drawImage(
k,w.box[0],w.box[1]),u.globalAlpha=1,u.strokeStyle=`rgb(${s})`,u.stroke(w.outline))}};var $t=({state:i})=>i.active?.opened??!1,Ct=[{id:"review",title:"Review opened objects: an image's most doubtful first, \
then the next most doubtful image",keys:["q"],group:"review",enabled:({state:i})=>!!i.told?.review,pressed:({review:i})=>i.
on,run:({review:i})=>i.toggle()},{id:"accept",title:"Accept the opened object, and go to the next",keys:["y"],group:"rev\
iew",enabled:$t,run:({kernel:i})=>{i.send("accept",{object_id:null})}},{id:"reject",title:"Reject the opened object, whi\
ch is removed, and go to the next",keys:["w"],group:"review",enabled:$t,run:({kernel:i})=>{i.send("reject",{object_id:null})}},
{id:"next-review",title:"Next object to review, without a decision",keys:["u"],group:"review",enabled:({state:i})=>!!i.told?.
review,run:({kernel:i})=>{i.send("next_review")}}];var A=i=>t=>{t.kernel.send(i)},T=({state:i})=>i.active!==null,Tt=({stage:i})=>[i.clientWidth/2,i.clientHeight/2],y=[{id:"\
previous-image",title:"Previous image",keys:["PageUp"],group:"images",enabled:({state:i})=>(i.told?.image.index??0)>0,run:A(
"previous_image")},{id:"next-image",title:"Next image",keys:["PageDown"],group:"images",enabled:({state:{told:i}})=>i!==
null&&i.image.index<i.image.count-1,run:A("next_image")},{id:"images",title:"List of images",keys:["i"],group:"images",pressed:({
images:i})=>!i.node.hidden,run:({images:i})=>i.toggle()},...O("select","Select: click on a mask, with Shift on several",
"s"),...O("point","Point: click on the object, right-click beside it, drag a box","v"),...O("box","Box: drag around an o\
bject; a click selects the mask there","b"),...O("brush","Brush: paint onto the mask","g"),...O("erase","Eraser: paint o\
ff the mask","e"),...O("edit","Outline: drag vertices, click on an edge for a new one, right-click removes","r"),{id:"se\
parate",title:"Each box is a new object",keys:["Shift+b"],group:"tools",pressed:({state:i})=>i.separate,run:({state:i})=>{
i.separate=!i.separate}},{id:"sign",title:"Next clicks are negative",keys:["t"],group:"tools",pressed:({state:i})=>i.sign===
0,run:({state:i})=>{i.sign=1-i.sign}},{id:"undo",title:"Undo",keys:["z","Ctrl+z"],group:"history",enabled:({state:i})=>i.
told?.undo??!1,run:A("undo")},{id:"redo",title:"Redo",keys:["Shift+z","Ctrl+Shift+z"],group:"history",enabled:({state:i})=>i.
told?.redo??!1,run:A("redo")},{id:"commit",title:"Done with this object",keys:["Enter","c"],group:"object",enabled:T,run:A(
"commit")},{id:"new",title:"New object",keys:["Shift+n"],group:"object",enabled:T,run:A("new_object")},{id:"delete",title:"\
Delete object",keys:["Delete","Backspace"],group:"object",enabled:T,run:({kernel:i})=>{i.send("delete",{object_id:null})}},
{id:"duplicate",title:"Duplicate the object",keys:["d"],group:"edit",enabled:T,run:A("duplicate")},{id:"split",title:"Sp\
lit into connected parts",keys:["k"],group:"edit",enabled:T,run:A("split")},{id:"merge",title:"Merge the selected object\
s",keys:["j"],group:"edit",enabled:({state:i})=>i.chosen.length>1,run:({actions:i})=>i.combine("merge")},{id:"subtract",
title:"Subtract the other selected objects from the active one",keys:["Shift+j"],group:"edit",enabled:({state:i})=>i.chosen.
length>1,run:({actions:i})=>i.combine("subtract")},{id:"shrink",title:"Shrink by a pixel",keys:[","],group:"edit",enabled:T,
run:({kernel:i})=>{i.send("grow",{pixels:-1})}},{id:"grow",title:"Grow by a pixel",keys:["."],group:"edit",enabled:T,run:({
kernel:i})=>{i.send("grow",{pixels:1})}},{id:"hide",title:"Hide or show the object; all objects if none is active",keys:[
"h"],group:"show",pressed:({state:i})=>i.hidden.size+i.hiddenClasses.size>0,run:({state:i,actions:t,kernel:e})=>{let{active:s}=i;
s?(i.hidden.add(s.id),e.send("new_object")):t.toggleAll()}},{id:"next-object",title:"Next object",keys:["n"],run:({actions:i})=>i.
walk(1)},{id:"previous-object",title:"Previous object",keys:["p"],run:({actions:i})=>i.walk(-1)},{id:"candidate",title:"\
Next of the candidate masks",keys:["m"],run:({actions:i})=>i.nextCandidate()},{id:"class",title:"Class of the object",keys:[
"1","2","3","4","5","6","7","8","9"],shown:"1 - 9",run:({actions:i},t)=>i.classAt(Number(t)-1)},{id:"automatic",title:"A\
utomatic masks to pick from",keys:["a"],group:"show",enabled:({state:i})=>i.usable&&i.told?.automatic===null,pressed:({automatic:i})=>i.
choosing!==null,run:({automatic:i})=>i.toggle()},...Ct,{id:"multimask",title:"Three candidates to choose from",keys:["Sh\
ift+m"],group:"show",enabled:({state:i})=>i.told!==null,pressed:({state:i})=>i.told?.multimask??!1,run:({kernel:i,state:t})=>{
i.send("set_multimask",{on:!t.told?.multimask})}},{id:"colour",title:"Colour by class",keys:["l"],group:"show",pressed:({
state:i})=>i.colourBy==="class",run:({state:i})=>{i.colourBy=i.colourBy==="class"?"object":"class"}},{id:"fill",title:"O\
utlines only, without fill",keys:["Shift+o"],group:"show",pressed:({state:i})=>!i.fills,run:({state:i})=>{i.fills=!i.fills,
i.fills||(i.outlines=!0)}},{id:"outline",title:"Outlines",keys:["o"],group:"show",pressed:({state:i})=>i.outlines,run:({
state:i})=>{i.outlines=!i.outlines}},{id:"fit",title:"Fit the image",keys:["f"],group:"more",run:({view:i})=>{i.fitted=!0}},
{id:"export",title:"Export: format, path or download",keys:["x"],group:"more",enabled:({state:i})=>i.told!==null,pressed:({
exporter:i})=>!i.node.hidden,run:({exporter:i})=>i.toggle()},{id:"help",title:"Keys",keys:["?"],group:"more",pressed:({help:i})=>!i.
hidden,run:({help:i})=>{i.hidden=!i.hidden}},{id:"zoom-in",title:"Zoom in",keys:["+","="],run:i=>i.zoom(1.25,Tt(i))},{id:"\
zoom-out",title:"Zoom out",keys:["-","_"],run:i=>i.zoom(.8,Tt(i))},{id:"smaller-brush",title:"Smaller brush",keys:["["],
run:i=>i.setRadius(i.state.radius-2)},{id:"larger-brush",title:"Larger brush",keys:["]"],run:i=>i.setRadius(i.state.radius+
2)},{id:"cursor",title:"Move the cursor; with Shift by a pixel",keys:["ArrowLeft","ArrowRight","ArrowUp","ArrowDown"],shown:"\
Arrows",run:({keyboard:i},t)=>i.moveCursor(t)},{id:"press",title:"Click at the cursor, with Shift a negative click; held\
 down: drag the image",keys:["Space"],run:({keyboard:i})=>i.hold()},{id:"escape",title:"Leave the automatic masks, a box\
 or the help",keys:["Escape"],run:i=>i.escape()}],Ot=[{shown:"Point",title:"Preview of a new object"},{shown:"Click",title:"\
On the object"},{shown:"Right-click, Shift-click, long press",title:"On what is not part of it"},{shown:"Alt-click",title:"\
Select the mask there, in any tool"},{shown:"Drag",title:"A box; with automatic masks a lasso that adds those inside"},{
shown:"Right-click on a class, F2",title:"Rename it, or make it part of another"},{shown:"Wheel or pinch",title:"Zoom"},
{shown:"Space-drag or middle button",title:"Move the image"}];function O(i,t,e){return[{id:`mode-${i}`,title:t,keys:[e],
group:"tools",pressed:({state:s,automatic:o})=>s.mode===i&&!o.choosing,run:({state:s,automatic:o,editor:n})=>{s.mode=i,s.
preview=null,o.picking=!1,n.answered()}}]}var Jt=new Map(y.map(i=>[i.id,i])),Pt=new Map(y.flatMap(i=>i.keys.map(t=>[t,i])));
function I(i){let t=Jt.get(i);if(!t)throw new Error(`no command ${i}`);return t}function Rt(i){return Pt.get(i)??(i.startsWith(
"Shift+")?Pt.get(i.slice(6)):void 0)}var Zt=9,Xt=7,Qt=1.5,H=class{rings=[];#t=[];#e="";#s=!1;constructor(t){this.page=t}get on(){return this.page.state.mode===
"edit"&&this.page.state.active!==null}answered(){let{state:t}=this.page,e=t.held.find(({each:d})=>d.id===t.told?.active),
s=this.on&&e?`${t.image?.index},${e.each.id},${e.version}`:"";if(s===this.#e)return;let o=this.#s&&this.#e.split(",")[1]===
s.split(",")[1];if(this.#e=s,this.#s=!1,o)return;this.rings=[];let{image:n}=t;if(!s||!e||!n)return;let{mask:r}=e,[a,l]=[
n.width/r.width,n.height/r.height],h=Math.max(.6,Qt/(a*this.page.view.scale));this.rings=wt(r.rows).map(d=>kt(d,h).map(([
u,p])=>L([u*a-.5,p*l-.5])))}take(t,e){let{view:s}=this.page,o=this.rings.map(h=>h.map(d=>s.toCss(d))),n=xt(o,t,Zt,e?0:Xt);
if(!n)return null;this.#t=this.rings.map(h=>[...h]);let{ring:r,edge:a}=n,l=n.vertex+(a?1:0);return e?(this.rings[r].length>
3?this.rings[r].splice(l,1):this.rings.splice(r,1),this.finish(),null):(a&&this.rings[r].splice(l,0,L(s.toPixel(t))),{kind:"\
vertex",ring:r,vertex:l})}move(t,e,s){this.rings[t]&&(this.rings[t][e]=L(s))}finish(){let[t,e]=[this.#t,this.rings];if(JSON.
stringify(t)!==JSON.stringify(e)){if(!e.length){this.page.say("Nothing would be left of the object: delete it instead","\
error"),this.rings=t;return}this.#s=!0,this.page.kernel.send("reshape",{before:t,after:e})}}};var _t=[{kind:"coco",title:"COCO (one JSON file)",file:"annotations.json"},{kind:"yolo",title:"YOLO (a folder)",file:"yo\
lo"},{kind:"png",title:"PNG label maps (a folder)",file:"label_maps"},{kind:"npz",title:"NPZ run lengths (a folder)",file:"\
npz"}],q=class{#t=c("select","samjax-only",{"aria-label":"Format"},_t.map(({kind:t,title:e})=>c("option","",{value:t},[e])));#e=c(
"input","",{type:"radio",name:"samjax-where",checked:""});#s=c("input","",{type:"radio",name:"samjax-where"});#i=c("inpu\
t","samjax-filter",{type:"text","aria-label":"Path on the server",spellcheck:"false"});#o=c("input","",{type:"checkbox"});#n=c(
"span");#r=c("input","",{type:"checkbox"});#a=c("label","",{},[this.#r,"Only those that were reviewed"]);node=c("form","\
samjax-export",{role:"dialog","aria-modal":"true","aria-label":"Export",hidden:""},[c("h3","",{},["Export"]),c("label","",
{},[c("span","",{},["Format"]),this.#t]),c("label","",{},[this.#e,"Save where the kernel runs, as"]),this.#i,c("label","",
{},[this.#s,"Download in the browser"]),c("label","",{},[this.#o,this.#n]),this.#a,c("div","samjax-exportbuttons",{},[this.#l(
"Cancel","button",()=>this.toggle()),this.#l("Export","submit")])]);constructor(t){this.page=t,this.#t.addEventListener(
"change",()=>this.#h()),this.#i.addEventListener("input",()=>{this.#e.checked=!0}),this.node.addEventListener("keydown",
e=>{e.key!=="Enter"||e.isComposing||e.target instanceof HTMLButtonElement||(e.preventDefault(),this.#c())}),this.node.addEventListener(
"submit",e=>{e.preventDefault(),this.#c()})}#l(t,e,s){let o=c("button","samjax-wide",{type:e},[t]);return s&&o.addEventListener(
"click",s),o}#h(){let t=this.page.state.told?.export_folder??"",e=_t.find(({kind:s})=>s===this.#t.value)?.file??"";this.#i.
value=t?`${t}/${e}`:e}toggle(){if(this.node.hidden=!this.node.hidden,this.node.hidden){this.page.focus();return}let t=this.
page.state.told?.objects.filter(e=>!e.committed).length??0;g(this.#n,`With unfinished objects (${t} in this image)`),this.#a.
hidden=!this.page.state.told?.review,this.#h(),this.#t.focus({preventScroll:!0})}#c(){let t={format:this.#t.value,unfinished:this.#o.
checked,reviewed:this.#r.checked},e=this.#i.value.trim();if(this.#s.checked)this.page.kernel.send("download",t);else if(e)
this.page.kernel.send("export",{...t,path:e});else return;this.toggle()}receive({name:t},e){let s=new Blob([e]),o=URL.createObjectURL(
s),n=c("a","",{href:o,download:t});this.node.append(n),n.click(),n.remove(),setTimeout(()=>URL.revokeObjectURL(o),1e4)}};function It({key:i,shiftKey:t,ctrlKey:e}){let s=i===" "?"Space":i.length===1?i.toLowerCase():i,o=t&&/^([a-z]|..+)$/.test(
s)?"Shift+":"";return`${e?"Ctrl+":""}${o}${s}`}function V({keys:i,shown:t}){return t??te(i[0])}function te(i){return i.length===
1?i.toUpperCase():i.replace("Delete","Del").replace(/Page(\w+)/,(t,e)=>`Page ${e.toLowerCase()}`).replace(/\+(\w)$/,(t,e)=>`\
 ${e.toUpperCase()}`)}function ee(){return[...Ot.map(({shown:i,title:t})=>[i,t]),...y.map(i=>[V(i),i.title])]}function Nt(i){let t=c("dl");for(let[o,n]of ee())t.append(c("div","",{},[c("dt","",{},[o]),c("dd","",{},[n])]));let s=c(
"div","samjax-help",{role:"dialog","aria-label":"Keys",tabindex:"0",hidden:""},[t]);return s.addEventListener("click",()=>i.
act("help")),s}var se=150,zt=5,Y=class{#t=0;#e=0;#s=null;#i=null;#o=null;#n=0;#r="";#a=[];latency=Number.NaN;constructor(t){this.page=t}get waitsSince(){
return this.#o?this.#n:Number.POSITIVE_INFINITY}forget(){this.#o=this.#i=this.#s=null,this.#r="",this.page.state.preview=
null}follow(){this.#s&&!this.page.automatic.choosing&&this.at(this.#s)}#l(t){let{state:e}=this.page,{image:s,told:o}=e;return!!(s&&
e.mode==="point"&&e.sign===1&&e.usable&&o?.image.phase==="ready"&&o.active===null&&!e.marks.length&&P(t,s))}at(t){let{state:e,
automatic:s,painter:o}=this.page;if(s.choosing){s.point(t);return}let{image:n}=e;this.#s=t,this.#i=n&&t&&this.#l(t)?j(t,
n):null,this.#i?this.#h():e.preview&&(e.preview=null,o.paint())}#h(){let{state:t,kernel:e,root:s}=this.page;if(this.#o||
!this.#i)return;let[o,n]=this.#i;this.#i=null;let{told:r}=t,a=[o,n,r?.image.index,r?.multimask,r?.threshold].join();if(a===
this.#r&&t.preview)return;this.#r=a,this.#t+=1,s.dataset.hoverSent=String(this.#t);let l=`${e.name}-hover-${this.#t}`;if(this.#o=
l,this.page.decoder.ready){this.#c(l,o,n);return}this.#n=performance.now(),e.post({kind:"hover",request:l,x:o,y:n})}async#c(t,e,s){
this.#n=Number.POSITIVE_INFINITY;let o=performance.now(),n=await this.page.decoder.decode({points:[[e,s,1]],box:null});t===
this.#o&&(this.#d(n),this.latency=performance.now()-o)}receive(t,e){if(t.request!==this.#o)return;this.#u(performance.now()-
this.#n);let{image:s}=this.page.state,o=s&&t.index===s.index&&e.length;this.#d(o?new x(C(e[0]),...s.display):null)}#u(t){
if(this.#a.push(t)!==zt)return;let e=this.#a.sort((o,n)=>o-n)[zt>>1];if(e<se||!this.page.decoder.off)return;let s=(e/1e3).
toFixed(1);this.page.say(`Previews take ${s} s: samjax.Annotator(..., decode_in_page=True) makes them here`)}#d(t){let{state:e,
painter:s,root:o}=this.page;this.#o=null,this.#e+=1,e.preview=this.#s&&this.#l(this.#s)?t:null,s.paintNow(),o.dataset.hover=
String(this.#e),this.#h()}};function ie([i,t]){if(!i)return"no objects";let e=`${i} object${i===1?"":"s"}`;return t===i?`${e}, done`:`${e}, ${t} don\
e`}var G=class{#t=c("input","samjax-filter",{type:"search",placeholder:"filter","aria-label":"Show images whose name has\
 this"});#e=c("select","samjax-only",{"aria-label":"Show images by state"},[c("option","",{value:"all"},["all"]),c("opti\
on","",{value:"open"},["not done"]),c("option","",{value:"done"},["done"])]);#s=c("div","samjax-imagerows",{role:"group",
"aria-label":"Images"});node=c("aside","samjax-imagelist",{"aria-label":"Images",hidden:""},[c("div","samjax-imagefilter",
{},[this.#t,this.#e]),this.#s]);#i=null;#o=new Map;#n=new Set;#r=new IntersectionObserver(t=>this.#l(t),{root:this.#s});constructor(t){
this.page=t,this.#t.addEventListener("input",()=>this.refresh()),this.#e.addEventListener("change",()=>this.refresh()),this.
node.addEventListener("keydown",e=>{e.key==="Escape"&&(e.stopPropagation(),this.toggle())})}close(){this.#r.disconnect();
for(let t of this.#o.values())URL.revokeObjectURL(t)}toggle(){if(this.node.hidden=!this.node.hidden,this.node.hidden){this.
page.focus();return}this.page.kernel.send("list_images"),this.#t.focus({preventScroll:!0})}receive(t){this.#i=t,this.refresh()}receiveThumbnail({
index:t},e){let s=new Blob([e],{type:"image/jpeg"});this.#o.set(t,URL.createObjectURL(s)),this.refresh()}refresh(){let{told:t}=this.
page.state;if(this.node.hidden||!t||!this.#i)return;let{names:e,counts:s}=this.#i;s[t.image.index]=[t.objects.length,t.objects.
filter(a=>a.done).length];let o=this.#t.value.trim().toLowerCase(),n=this.#e.value,r=e.flatMap((a,l)=>{let[h,d]=s[l],u=h>
0&&h===d;return(n==="all"||u===(n==="done"))&&a.toLowerCase().includes(o)?[{name:a,index:l}]:[]});$(this.#s,r,({index:a})=>String(
a),({name:a,index:l})=>this.#a(a,l),(a,{index:l})=>{let h=l===t.image.index;a.setAttribute("aria-current",String(h));let[
d,u]=s[l];a.dataset.done=String(d>0&&d===u);let[p,f]=a.children;g(f.children[1],ie(s[l]));let m=this.#o.get(l);m&&p.getAttribute(
"src")!==m&&p.setAttribute("src",m)})}#a(t,e){let s=c("button","samjax-imagerow",{type:"button",title:t},[c("img","",{alt:""}),
c("span","",{},[c("b","",{},[t]),c("small")])]);return s.dataset.image=String(e),s.addEventListener("click",()=>this.page.
kernel.send("go",{index:e})),this.#r.observe(s),s}#l(t){let e=t.filter(({isIntersecting:o})=>o).map(({target:o})=>Number(
o.dataset.image)).filter(o=>!this.#n.has(o));for(let o of e)this.#n.add(o);e.length&&this.page.kernel.post({kind:"thumbn\
ails",request:"thumbnails",indices:e})}};var oe=8e3;function ne(i,t){let e=new Map(t.map(s=>[s.id,s]));return i.flatMap(s=>typeof s=="number"?e.get(s)??[]:[s])}var J=class{#t=new Map;#e=0;#s=-1;name=Math.
random().toString(36).slice(2,8);constructor(t){this.page=t,this.onMessage=(e,s)=>this.#o(e,s??[]),this.onClose=()=>this.
lose(),t.model.on("msg:custom",this.onMessage),t.model.on("comm:close",this.onClose),this.timer=setInterval(()=>this.#i(),
1e3)}close(){clearInterval(this.timer),this.page.model.off("msg:custom",this.onMessage),this.page.model.off("comm:close",
this.onClose)}get busy(){return this.#t.size>0}send(t,e={}){t!=="set_threshold"&&this.page.actions.settle(),t!=="click"&&
t!=="box"&&this.page.decoder.forget(),this.#e+=1;let s=`${this.name}-${this.#e}`;return this.#t.set(s,performance.now()),
this.post({kind:t,request:s,revision:this.page.state.told?.revision,...e}),t!=="hello"&&(this.page.root.dataset.state=this.
page.state.name(this.busy)),s}post(t){try{this.page.model.send(t)}catch{this.lose()}}lose(){let{page:t}=this;t.state.gone=
!0,t.state.marks=[],this.#t.clear(),t.hover.forget(),t.actions.forget(),t.decoder.forget(),t.refresh(),t.say(t.veil.textContent??
"","error"),t.painter.paint()}#i(){let t=Math.min(...this.#t.values(),this.page.hover.waitsSince);performance.now()-t>oe&&
!this.page.state.gone&&this.lose()}#o(t,e){t.kind==="image"?this.#n(t,e[0]):t.kind==="update"?this.#r(t,e):t.kind==="aut\
omatic_masks"?this.page.automatic.receive(t,e[0]):t.kind==="hover"?this.page.hover.receive(t,e):t.kind==="page_decoder"?
this.page.decoder.receive(t,e):t.kind==="embedding"?this.page.decoder.receiveEmbedding(t,e):t.kind==="download"?this.page.
exporter.receive(t,e[0]):t.kind==="images"?this.page.images.receive(t):t.kind==="thumbnail"&&this.page.images.receiveThumbnail(
t,e[0])}async#n(t,e){let{page:s}=this;this.#s=t.index,s.state.masks.clear();let o=new Blob([e],{type:"image/jpeg"}),n=await createImageBitmap(
o);this.#s===t.index&&(s.state.picture?.bitmap.close(),s.state.picture={...t,bitmap:n},s.state.preview=null,s.painter.newImage(),
s.candidates.forget(),s.state.unpack(),s.refresh(),s.painter.paintNow())}#r(t,e){let{page:s}=this,{state:o}=s;o.gone=!1,
t.request&&this.#t.delete(t.request),o.told?.image.index!==t.image.index&&(o.leave(),s.automatic.leave());let n=ne(t.objects,
o.told?.objects??[]);o.told={...t,objects:n},t.masks.forEach(({id:l,version:h},d)=>{o.masks.set(l,{version:h,runs:C(e[d])})});
let r=new Set(n.map(l=>l.id));for(let l of o.masks.keys())r.has(l)||o.masks.delete(l);for(let l of o.selected)r.has(l)||
o.selected.delete(l);for(let l of o.hidden)r.has(l)||o.hidden.delete(l);let a=e.slice(t.masks.length);t.candidates&&this.#a(
t.candidates,a,t.replies),this.busy||(o.marks=[],s.decoder.forget()),s.actions.answered(o.told),s.automatic.answered(o.told),
o.unpack(),s.hover.follow(),s.editor.answered(),s.refresh(),s.painter.paintNow()}#a({fresh:t,size:e,region:s},o,n){if(!t||
!e||!s)return;let[r,a]=e,l=o.map(h=>new x(C(h),a,r));this.page.state.thumbnails={size:e,region:s,masks:l,key:`${n}${this.
name}`}}};var re={ArrowLeft:[-1,0],ArrowRight:[1,0],ArrowUp:[0,-1],ArrowDown:[0,1]},ae=/(Arrow\w+|Home|End|Page\w+)$/,Ut=i=>i.matches(
"input[type=range]"),ct=i=>i.matches("textarea, select, [contenteditable], input:not([type=range], [type=checkbox])"),Z=class{held=!1;#t=!1;#e=!1;#s=new AbortController;constructor(t){
this.page=t;let e={capture:!0,signal:this.#s.signal};window.addEventListener("keydown",s=>this.#o(s),e),window.addEventListener(
"keyup",s=>this.#n(s),e),window.addEventListener("pointerdown",()=>this.#i(),e),window.addEventListener("blur",()=>this.
release(),e)}close(){this.#s.abort()}#i(){this.#e=!1}release(){this.held=this.#t=!1}hold(){this.held=!0}usedForDrag(){this.#t=
!0}#o(t){let e=t.composedPath();if(t.key==="Tab"&&(this.#e=!0),!e.includes(this.page.root)||t.metaKey||t.altKey)return;let s=e[0],
o=It(t);if(s.closest("[role=dialog]")&&o!=="Escape"||ct(s)&&!(o==="Escape"&&s.closest("[role=dialog]")))return;if(Ut(s)&&
ae.test(o)){t.stopPropagation();return}if(this.#e&&s.closest("button")&&/(Enter|Space)$/.test(o)){t.stopPropagation();return}
let n=Rt(o);n&&(t.preventDefault(),t.stopPropagation(),this.page.run(n,o),Ut(s)||this.page.focusUnlessField())}moveCursor(t){
let{state:e,view:s,canvas:o,hover:n}=this.page,{image:r}=e;if(!r)return;let[a,l]=re[t.replace("Shift+","")],h=t.startsWith(
"Shift+")?1:Math.max(1,Math.round(10/s.scale)),[d,u]=e.cursor??[r.width/2,r.height/2];e.cursor=j([d+a*h,u+l*h],r),e.corner&&
(e.drag={kind:"cursor",box:_(e.corner,e.cursor)}),o.setAttribute("aria-label",`Cursor at ${e.cursor.join(", ")}`),n.at(e.
cursor)}#n(t){if(t.key!==" "||!this.held)return;let e=!this.#t;this.release(),t.preventDefault(),t.stopPropagation();let{
state:s}=this.page;!e||!s.cursor||!s.usable||this.#r(s.cursor,t.shiftKey?0:s.sign)}#r(t,e){let{state:s,view:o,automatic:n,
actions:r}=this.page;if(n.choosing||s.mode==="point")r.click(t,e);else if(s.mode==="select"||s.mode==="edit")r.selectAt(
t,!e);else if(s.mode==="box"&&!s.corner)s.corner=t;else if(s.mode==="box"&&s.corner){let a=_(s.corner,t);s.corner=s.drag=
null,r.box(a)}else{let a=s.mode==="brush"==!!e;r.stroke([t],s.radius/o.scale,a)}}};var Bt='function R(t){let n=new Float32Array(65536);for(let e=0;e<32768;e++){let s=e>>10,r=e&1023,o=s?2**(s-15)*(1+r/102\
4):2**-14*(r/1024);n[e]=o,n[e|32768]=-o}return Float32Array.from(t,e=>n[e])}function F({points:t,box:n},[e,s]){let r=[..\
.t];n&&r.push([n[0],n[1],2],[n[2],n[3],3]);let o=new Float32Array(2*(r.length+(n?0:1))),a=new Float32Array(o.length/2).f\
ill(-1);return r.forEach(([c,l,d],u)=>{o.set([c*e,l*s],2*u),a[u]=d}),{coords:o,labels:a}}function L(t,n){if(!n||t.length\
===1)return 0;let e=1;for(let s=2;s<t.length;s++)t[s]>t[e]&&(e=s);return e}function A(t,n,e){let s=Math.max(0,n/e*(t+.5)\
-.5),r=Math.min(Math.floor(s),n-1);return[r,r===n-1?0:s-r]}function M(t,n,e,s){let r=new Int32Array(s),o=new Float32Arra\
y(3*s);for(let a=0;a<s;a++){let[c,l]=A(a,e,s),d=A(c,t,n)[0];r[a]=Math.min(d,t-3);for(let[u,h]of[[c,1-l],[Math.min(c+1,e-\
1),l]]){let[f,i]=A(u,t,n);o[3*a+f-r[a]]+=h*(1-i),i&&(o[3*a+f+1-r[a]]+=h*i)}}return{first:r,weights:o}}function T(t,n,e,s\
,r){let[o,a]=[e.first.length,s.first.length],{weights:c}=e,l=new Float32Array(n*o);for(let f=0;f<n;f++)for(let i=0;i<o;i\
++){let g=f*n+e.first[i],[y,b,v]=[c[3*i],c[3*i+1],c[3*i+2]];l[f*o+i]=y*t[g]+b*t[g+1]+v*t[g+2]}let d=[],u=!1,h=0;for(let \
f=0;f<a;f++){let i=s.first[f]*o,[g,y]=[i+o,i+2*o],[b,v,E]=s.weights.subarray(3*f,3*f+3);for(let x=0;x<o;x++)b*l[i+x]+v*l\
[g+x]+E*l[y+x]>r===u?h++:(d.push(h),u=!u,h=1)}return d.push(h),Uint32Array.from(d)}var H=60,p,_,m=0,O,w=null,j=!1,k=Prom\
ise.resolve(),P="",U=[];async function B(t){if(t instanceof Uint8Array)return t;let[n,e]=t,s=await fetch(n,{integrity:e,\
credentials:"omit"});if(!s.ok)throw new Error(`${n}: ${s.status} ${s.statusText}`);return new Uint8Array(await s.arrayBu\
ffer())}async function I({provider:t,module:n,wasm:e,decoder:s}){let[r,o]=await Promise.all([B(n),B(e)]),a=URL.createObj\
ectURL(new Blob([r],{type:"text/javascript"}));p=await import(a),URL.revokeObjectURL(a),p.env.wasm.wasmBinary=o,p.env.wa\
sm.numThreads=1,p.env.logLevel="error";let c="basic",l=[t];_=await p.InferenceSession.create(s,{executionProviders:l,gra\
phOptimizationLevel:c}),m=_.outputMetadata.find(u=>u.name==="low_res_masks").shape[2]}async function z(t){let n=R(new Ui\
nt16Array(t.half));O=new p.Tensor("float32",n,t.shape),w=t,S(j?0:H),j=!0}function S(t){if(!t||!w)return;let n={id:0,inde\
x:w.index,multimask:!0,threshold:0},e={points:[[0,0,1]],box:null};k=k.then(()=>$({...n,kind:"decode",prompt:e,display:[2\
56,256]})).then(()=>{setTimeout(()=>S(t-1))})}async function $({index:t,prompt:n,multimask:e,threshold:s,display:r}){if(\
!w||w.index!==t)return null;let[o,a]=w.original,[c,l]=w.input,{coords:d,labels:u}=F(n,[l/a,c/o]),h=await _.run({image_em\
beddings:O,point_coords:new p.Tensor("float32",d,[1,u.length,2]),point_labels:new p.Tensor("float32",u,[1,u.length])}),f\
=h.iou_predictions.data,i=L(f,e),g=h.low_res_masks.data.subarray(i*m*m,(i+1)*m*m),y=[...r,c,l].join();return y!==P&&(U=[\
M(m,w.side,l,r[0]),M(m,w.side,c,r[1])],P=y),T(g,m,U[0],U[1],s)}async function K(t){if(t.kind==="start")await I(t);else i\
f(t.kind==="embedding")await z(t);else return $(t);return null}self.onmessage=({data:t})=>{k=k.then(()=>K(t)).then(n=>se\
lf.postMessage({kind:t.kind,id:t.id,index:t.index,runs:n})).catch(n=>self.postMessage({kind:"failed",reason:String(n?.me\
ssage??n)}))};\n';var he=8e3,X=class{#t=null;#e="off";#s="";#i=-1;#o=-1;#n=null;#r=0;#a=new Map;#l=null;constructor(t){this.page=t,this.#h(
t.model.get("decode_in_page")===!0?"waiting":"off")}get off(){return this.#e==="off"}get ready(){return this.#e==="ready"&&
this.#o===this.page.state.image?.index}#h(t){this.#e=t,this.page.root.dataset.decoder=t}async begin(){if(this.#e!=="wait\
ing")return;this.#h("loading");let t=await ce();this.page.kernel.post({kind:"page_decoder",gpu:t})}follow(){let{state:t,
kernel:e,root:s}=this.page;if(s.dataset.decodes=this.ready?String(this.#o):"",this.#e==="off"||this.#e==="failed"||!t.usable)
return;let o=t.told?.image.index??-1;t.told?.image.phase!=="ready"||o===this.#i||(this.#i=o,e.post({kind:"embedding",index:o}))}receive({
provider:t,module:e,wasm:s,error:o},n){if(this.#e!=="loading"||this.#t)return;if(o){this.#d(o);return}this.#s=t;let[r,a,
l]=n.map(Dt),h=new Blob([Bt],{type:"text/javascript"}),d=URL.createObjectURL(h);try{this.#t=new Worker(d,{type:"module"})}catch(u){
this.#d(String(u));return}finally{URL.revokeObjectURL(d)}this.#t.onmessage=({data:u})=>this.#u(u),this.#t.onerror=u=>this.#d(
u.message||"the worker does not start"),this.#c({kind:"start",provider:t,decoder:r,module:e??a,wasm:s??l}),this.#n&&this.#c(
this.#n),this.#n=null}receiveEmbedding({index:t,original:e,input:s,side:o,shape:n},[r]){let a={kind:"embedding",index:t,
original:e,input:s,side:o,shape:n,half:Dt(r).buffer};this.#t?this.#c(a):this.#n=a}#c(t){this.#t?.postMessage(t)}#u(t){t.
kind==="failed"?this.#d(t.reason):t.kind==="start"?(this.#h("ready"),this.follow()):t.kind==="embedding"?(this.#o=t.index,
this.follow()):(this.#a.get(t.id)?.(t.runs),this.#a.delete(t.id))}#d(t){this.#t?.terminate(),this.#t=null,this.#i=this.#o=
-1;for(let s of this.#a.values())s(null);if(this.#a.clear(),this.forget(),this.#s==="webgpu"){this.#s="",this.#h("loadin\
g"),this.page.kernel.post({kind:"page_decoder",gpu:!1});return}this.#h("failed");let e=`Previews come from the kernel: t\
his page cannot decode (${t})`;g(this.page.notice,e),this.page.notice.title=e}async decode(t){let{image:e,told:s}=this.page.
state;if(!this.ready||!e||!s)return null;this.#r+=1;let o=this.#r,n=new Promise(p=>this.#a.set(o,p)),{index:r,display:a}=e,
{multimask:l,threshold:h}=s;this.#c({kind:"decode",id:o,index:r,prompt:t,multimask:l,threshold:h,display:a});let d=setTimeout(
()=>this.#d("no answer"),he),u=await n;return clearTimeout(d),u&&this.page.state.image===e?new x(u,...a):null}async foresee(t){
let{state:e,painter:s,root:o}=this.page,n=this.ready?this.#p(t):null;if(this.#l=n,!n)return;let r=await this.decode(n.prompt);
!r||this.#l!==n||!e.marks.includes(t)||(e.foreseen={mask:r,fresh:n.fresh},o.dataset.foreseen=String(Number(o.dataset.foreseen??
0)+1),s.paintNow())}#p(t){let{state:e,kernel:s}=this.page;if(t.kind==="stroke")return null;if(t.kind==="box"&&e.mode==="\
box"&&e.separate)return{prompt:{points:[],box:t.box},fresh:!0};let o=s.busy?this.#l:this.#f();if(!o)return null;let{points:n,
box:r}=o.prompt;return t.kind==="box"?{...o,prompt:{points:n,box:t.box}}:{...o,prompt:{points:[...n,[...t.point,t.label]],
box:r}}}#f(){let{active:t,told:e}=this.page.state;return t?t.strokes||t.opened||e?.candidates?.rank?null:{prompt:{points:t.
points,box:t.box},fresh:!1}:{prompt:{points:[],box:null},fresh:!0}}forget(){this.#l=null,this.page.state.foreseen=null}close(){
this.#t?.terminate(),this.#t=null}};function Dt(i){let{buffer:t,byteOffset:e,byteLength:s}=i;return new Uint8Array(t.slice(
e,e+s))}async function ce(){let{gpu:i}=navigator,t=await i?.requestAdapter().catch(()=>null);return!!t&&!(t.info?.isFallbackAdapter??
t.isFallbackAdapter)}var de={"previous-image":"M15 5l-7 7 7 7","next-image":"M9 5l7 7-7 7","mode-point":"M12 3v5M12 16v5M3 12h5M16 12h5M12 12\
h.01","mode-box":"M4 6h16v12H4zM4 6h.01M20 6h.01M20 18h.01M4 18h.01","mode-brush":"M20 4L10 14M8 13.5c-2 0-3.2 1.4-3.2 3\
.3 0 1.2-.8 2-1.8 2.4 1 .6 2.2.8 3.2.8 2.4 0 4.3-1.5 4.3-3.7z","mode-erase":"M8 19l-4-4a1.5 1.5 0 010-2l8.500-8.500a1.50\
0 1.500 0 012 0L19.500 9.500a1.500 1.500 0 010 2L12 19zM9 9l6 6M8 19h12",sign:"M6 8h6M9 5v6M13 17h6M18 5L6 19",images:"M\
4 5h6v6H4zM14 5h6v6h-6zM4 14h6v6H4zM14 14h6v6h-6z","mode-select":"M6 4l12 8.500-5.500 1 3 5.500-2.200 1.200-3-5.700L6 18\
z","mode-edit":"M5 17L9 6l9 3 1 9zM5 17h.01M9 6h.01M18 9h.01M19 18h.01",separate:"M4 4h9v9H4zM16 8.500h4V20H8.500v-4M17 \
3v4M15 5h4",duplicate:"M8 8h12v12H8zM16 8V4H4v12h4",split:"M5 5c5 0 5 14 0 14zM19 5c-5 0-5 14 0 14zM12 4v2M12 11v2M12 18\
v2",merge:"M9.500 6a6 6 0 100 12M14.500 6a6 6 0 110 12M9.500 6h5M9.500 18h5",subtract:"M14 15.300A6 6 0 119 6a6 6 0 015 \
2.700M15.500 6.200a6 6 0 110 11.600 8 8 0 000-11.600",shrink:"M5 12h14",grow:"M12 5v14M5 12h14",hide:"M3 12s3.500-6 9-6 \
9 6 9 6-3.500 6-9 6-9-6-9-6zM12 14.500a2.500 2.500 0 100-5 2.500 2.500 0 000 5M4 20L20 4",show:"M3 12s3.500-6 9-6 9 6 9 \
6-3.500 6-9 6-9-6-9-6zM12 14.500a2.500 2.500 0 100-5 2.500 2.500 0 000 5",colour:"M12 3.500c5 0 8.500 3.300 8.500 7.500 \
0 3-2 4-4 4h-2c-1.500 0-2 1.200-1.200 2.200.8 1.100.3 3.300-1.800 3.300-5 0-8-3.800-8-8.500 0-5 3.800-8.500 8.500-8.500z\
M8 11h.01M11 7.500h.01M15.500 8.500h.01",fill:"M5 5h14v14H5z",undo:"M8 5L4 9l4 4M4 9h10a5.500 5.500 0 010 11h-4",redo:"M\
16 5l4 4-4 4M20 9H10a5.500 5.500 0 000 11h4",new:"M12 5v14M5 12h14",review:"M4 6h9M4 11h7M4 16h5M12 16l3 3 5.500-7",accept:"\
M5 13l4.500 4.500L19 7",reject:"M6 6l12 12M18 6L6 18","next-review":"M6 5l7 7-7 7M13 5l7 7-7 7",commit:"M5 13l4.500 4.50\
0L19 7",delete:"M5 7h14M10 7V4.500h4V7M7 7l1 12.500h8L17 7M10.500 11v5M13.500 11v5",automatic:"M12 3.500l1.800 5.200L19 \
10.500l-5.200 1.800L12 17.500l-1.800-5.200L5 10.500l5.200-1.800zM19 16v4M17 18h4",multimask:"M12 4l8 4.500-8 4.500-8-4.5\
00zM4 12.500l8 4.500 8-4.500M4 16.500L12 21l8-4.500",outline:"M12 4c5 0 8 2.500 8 7s-2.500 9-8 9-8-3-8-8 3-8 8-8z",fit:"\
M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5",export:"M12 4v11M7.500 10.500L12 15l4.500-4.500M5 19.500h14",help:"M9 9a3 3 0 11\
4.500 2.600c-1 .6-1.500 1.200-1.500 2.400M12 17.500h.01"};function N(i){return`<svg viewBox="0 0 24 24" aria-hidden="tru\
e"><path d="${de[i]}"/></svg>`}function Ft(i,t){let e=c("button","samjax-eye",{type:"button",title:i,"aria-label":i});return e.innerHTML=N("show"),e.addEventListener(
"click",t),e}function Wt(i,t){i.getAttribute("aria-pressed")!==String(t)&&(i.setAttribute("aria-pressed",String(t)),i.innerHTML=
N(t?"hide":"show"))}var Q=class{#t=c("div","samjax-chips");#e=c("input","samjax-newlabel",{type:"text",placeholder:"new \
class","aria-label":"Name of a new class",maxlength:"100"});node=c("div","samjax-labels",{role:"group","aria-label":"Cla\
sses"},[this.#t,this.#e]);#s=null;#i="";constructor(t){this.page=t,this.#e.addEventListener("keydown",e=>this.#a(e)),this.#e.
addEventListener("blur",()=>this.#r())}refresh(){let{state:t}=this.page,{told:e}=t;if(!e)return;$(this.#t,e.classes.map(
(a,l)=>({name:a,i:l})),({name:a})=>a,({name:a})=>this.#o(a),(a,{name:l,i:h})=>{let[d,u]=a.children;d.setAttribute("aria-\
pressed",String(l===e.label)),d.setAttribute("title",`${l}${h<9?` (${h+1})`:""}; right-click or F2 renames`),Wt(u,t.hiddenClasses.
has(l));let[p,f,m]=e.class_colours[h];a.style.setProperty("--sj-colour",`rgb(${p}, ${f}, ${m})`),a.dataset.coloured=String(
t.colourBy==="class")});let s=`${e.image.index}/${e.active}/${e.label}`;if(s===this.#i)return;this.#i=s;let o=this.node.
querySelector('.samjax-label[aria-pressed="true"]');if(!o)return;let[n,r]=[this.node.getBoundingClientRect(),o.getBoundingClientRect()];
r.top<n.top?this.node.scrollTop+=r.top-n.top:r.bottom>n.bottom&&(this.node.scrollTop+=r.bottom-n.bottom)}#o(t){let{kernel:e,
actions:s,state:o}=this.page,n=c("button","samjax-label",{type:"button","data-label":t},[t]);n.addEventListener("click",
()=>e.send("label",{name:t}));let r=l=>{l.preventDefault(),l.stopPropagation(),this.#n(t)};n.addEventListener("contextme\
nu",r),n.addEventListener("keydown",l=>l.key==="F2"&&r(l));let a=Ft(`Hide or show ${t}`,()=>s.toggleShown(o.hiddenClasses,
t));return c("span","samjax-chip",{},[n,a])}#n(t){this.#s=t,this.#e.value=t??"";let e=t===null?"Name of a new class":`Ne\
w name of ${t}`;this.#e.setAttribute("aria-label",e),this.#e.dataset.renames=String(t!==null),t!==null&&(this.#e.focus(),
this.#e.select(),this.page.say(`New name of ${t}: of a class that exists it becomes a part. Enter, or Escape`))}#r(){let t=this.#e.
value.trim();(!t||t===this.#s)&&this.#n(null)}#a(t){if(t.stopPropagation(),t.isComposing||t.key!=="Enter"&&t.key!=="Esca\
pe")return;let e=this.#e.value.trim(),s=this.#s;t.key==="Enter"&&e&&s===null?this.page.kernel.send("label",{name:e}):t.key===
"Enter"&&e&&e!==s&&this.page.kernel.send("rename_class",{old:s,new:e}),this.#e.value="",this.page.focus()}},tt=class{#t=c(
"p","samjax-none",{},["Click on an object. Right-click on what is not part of it. Drag a box."]);#e=c("div","samjax-rows");node=c(
"div","samjax-objects",{role:"group","aria-label":"Objects"},[this.#t,this.#e]);#s=null;#i=new WeakMap;constructor(t){this.
page=t}refresh(){let{told:t}=this.page.state;t&&(this.#t.hidden=t.objects.length>0,$(this.#e,t.objects,({id:e})=>String(
e),({id:e})=>this.#o(e),(e,s)=>this.#n(e,s,s.id===t.active)),this.#s!==t.active&&(this.#s=t.active,this.node.querySelector(
'[aria-pressed="true"]')?.scrollIntoView({block:"nearest"})))}#o(t){let{actions:e,kernel:s,state:o}=this.page,n=c("butto\
n","samjax-object",{type:"button","data-object":t},[c("i","samjax-swatch"),c("span"),c("small")]);n.addEventListener("cl\
ick",a=>{a.shiftKey||a.ctrlKey||a.metaKey?e.toggle(t):t===o.told?.active?s.send("new_object"):e.select(t)});let r=Ft(`Hi\
de or show object ${t}`,()=>e.toggleShown(o.hidden,t));return c("div","samjax-row",{},[n,r])}#n(t,e,s){let{state:o}=this.
page,{id:n,label:r,done:a,score:l}=e,[h,d]=[o.selected.has(n),!o.shows(e)],u=o.colourOf(e),p=[s,r,a,l,h,d,o.hidden.has(n),
u].join("|");if(this.#i.get(t)===p)return;this.#i.set(t,p);let[f,m]=t.children;f.setAttribute("aria-pressed",String(s)),
f.setAttribute("data-committed",String(a)),f.setAttribute("title",`${a?"done":e.opened?"to be reviewed":"in work"}; with\
 Shift select several`),t.dataset.selected=String(h),t.dataset.hidden=String(d),t.style.setProperty("--sj-colour",`rgb(${u}\
)`);let[,b,w]=f.children;g(b,`${n}  ${r}`),g(w,l===null?"":l.toFixed(2)),Wt(m,o.hidden.has(n))}};var ue=6,pe=550,et=class{#t=new Map;#e;constructor(t){this.page=t;let{canvas:e}=t;e.addEventListener("pointerdown",s=>this.#o(
s)),e.addEventListener("pointermove",s=>this.#r(s)),e.addEventListener("pointerup",s=>this.#l(s,!1)),e.addEventListener(
"pointercancel",s=>this.#l(s,!0)),e.addEventListener("pointerleave",()=>{t.state.mouse=null,t.hover.at(null),t.painter.paint()}),
e.addEventListener("wheel",s=>this.#i(s),{passive:!1})}close(){clearTimeout(this.#e)}#s(t){let e=this.page.canvas.getBoundingClientRect();
return[t.clientX-e.left,t.clientY-e.top]}#i(t){t.preventDefault();let e=t.deltaMode===1?20*t.deltaY:t.deltaY;this.page.zoom(
Math.exp(-e*(t.ctrlKey?.01:.0015)),this.#s(t))}#o(t){let{state:e,canvas:s,keyboard:o,painter:n}=this.page;s.focus({preventScroll:!0}),
e.cursor=null;let r=this.#s(t);this.#t.set(t.pointerId,r),s.setPointerCapture(t.pointerId),t.preventDefault(),this.#t.size===
2?(e.drag={kind:"pinch"},clearTimeout(this.#e)):this.#t.size===1&&e.image&&(t.button===1||o.held?(e.drag={kind:"pan"},o.
usedForDrag()):(e.drag=this.#n(r,t),n.paint()))}#n(t,e){let{state:s,view:o,automatic:n,actions:r,editor:a}=this.page,l=o.
toPixel(t),h=e.button===2||e.shiftKey||e.ctrlKey;if(n.choosing)return{kind:"lasso",points:[l],pixel:l};if(s.mode==="sele\
ct"||e.altKey)return{kind:"select",pixel:l,add:e.shiftKey||e.ctrlKey};if(s.mode==="edit"){let d=e.button===2,u=a.take(t,
d);return u||d?u:{kind:"select",pixel:l,add:!1}}if(s.mode==="brush"||s.mode==="erase"){let d=s.mode==="brush"!==h;return{
kind:"stroke",points:[L(l)],radius:s.radius/o.scale,add:d}}return e.pointerType==="touch"&&(this.#e=setTimeout(()=>{s.drag?.
kind!=="click"||s.drag.box||(s.drag=null,navigator.vibrate?.(15),r.click(l,0))},pe)),{kind:"click",start:t,pixel:l,label:h?
0:s.sign,box:null}}#r(t){let{state:e,view:s,hover:o,painter:n}=this.page,r=this.#s(t),a=this.#t.get(t.pointerId);if(e.mouse=
t.pointerType==="touch"?null:r,!a){e.cursor=null,o.at(e.image?s.toPixel(r):null),(e.mode==="brush"||e.mode==="erase")&&n.
paint();return}e.drag?.kind==="pinch"&&this.#h(t.pointerId,a,r),this.#t.set(t.pointerId,r),!(!e.drag||!e.image)&&(this.#a(
e.drag,a,r),n.paint())}#a(t,e,s){let{state:o,view:n}=this.page;if(o.image){if(t.kind==="pan")n.move(s[0]-e[0],s[1]-e[1]);else if(t.
kind==="stroke"){let r=n.toCss(t.points[t.points.length-1]);if(Math.hypot(s[0]-r[0],s[1]-r[1])<2)return;t.points.push(L(
n.toPixel(s)))}else if(t.kind==="lasso"){let r=n.toCss(t.points[t.points.length-1]);Math.hypot(s[0]-r[0],s[1]-r[1])>3&&t.
points.push(n.toPixel(s))}else if(t.kind==="vertex")this.page.editor.move(t.ring,t.vertex,n.toPixel(s));else if(t.kind===
"click"){let r=Math.hypot(s[0]-t.start[0],s[1]-t.start[1])>ue;r&&clearTimeout(this.#e),(r||t.box)&&(t.box=_(j(t.pixel,o.
image),j(n.toPixel(s),o.image)))}}}#l(t,e){let{state:s,kernel:o,actions:n,painter:r}=this.page;if(!this.#t.delete(t.pointerId))
return;clearTimeout(this.#e);let{drag:a}=s;if(a?.kind==="pinch"){this.#t.size||(s.drag=null);return}s.drag=null,s.gone&&
o.send("hello"),a&&s.usable&&!e&&(a.kind==="stroke"?n.stroke(a.points,a.radius,a.add):a.kind==="click"&&a.box?n.box(a.box):
a.kind==="lasso"?n.lasso(a.points,a.pixel):a.kind==="vertex"?this.page.editor.finish():a.kind==="select"?n.selectAt(a.pixel,
a.add):a.kind==="click"&&s.mode==="box"?n.selectAt(a.pixel,!1)||this.page.say("Drag from one corner of the box to the ot\
her"):a.kind==="click"&&n.click(a.pixel,a.label)),r.paint()}#h(t,e,s){let[o]=[...this.#t].filter(([h])=>h!==t).map(([,h])=>h),
n=h=>Math.hypot(h[0]-o[0],h[1]-o[1])||1,r=h=>[(h[0]+o[0])/2,(h[1]+o[1])/2],[a,l]=[r(e),r(s)];this.page.view.move(l[0]-a[0],
l[1]-a[1]),this.page.zoom(n(s)/n(e),l)}};var st=class{on=!1;#t=c("span","samjax-reviewtext");#e="";constructor(t){this.page=t;let e=y.filter(s=>s.group==="review");
this.node=c("div","samjax-review",{role:"group","aria-label":"Review",hidden:""},[...e.map(s=>t.toolbar.button(s.id)),this.#t])}toggle(){
let{state:t,kernel:e,view:s}=this.page;this.on=!this.on,this.#e="",this.on?(!t.active?.opened||t.active.done)&&e.send("n\
ext_review"):s.fitted=!0}refresh(){let t=this.page.state.told;if(this.node.hidden=!t?.review,!t?.review)return;let{here:e,
all:s}=t.review,[o,n]=s,r=t.image.count>1&&e[1]?`, ${e.join(" of ")} in this image`:"";g(this.#t,`${o} of ${n} reviewed${r}`),
this.node.dataset.done=String(o===n),this.on&&this.#s()}#s(){let{state:t,view:e,stage:s,painter:o}=this.page,{active:n,image:r,
told:a}=t,l=n&&t.masks.get(n.id)?.mask;if(!r||!n?.opened||!l?.box)return;let h=`${a?.image.index}/${n.id}`;if(h===this.#e)
return;this.#e=h,o.paintNow();let[d,u]=[r.width/l.width,r.height/l.height],[p,f,m,b]=l.box;e.frame([p*d,f*u,m*d,b*u],s.clientWidth,
s.clientHeight),o.paint()}};var it=class{told=null;picture=null;masks=new Map;thumbnails=null;marks=[];preview=null;foreseen=null;gone=!1;mode="poin\
t";sign=1;separate=!0;opacity=.45;fills=!0;outlines=!0;colourBy="object";brightness=1;contrast=1;hidden=new Set;hiddenClasses=new Set;selected=new Set;radius=14;drag=null;corner=null;cursor=null;mouse=null;get image(){
return this.picture&&this.told&&this.picture.index===this.told.image.index?this.picture:null}get active(){return this.told?.
objects.find(t=>t.id===this.told?.active)??null}get usable(){return!!this.image&&this.told?.image.phase!=="error"&&!this.
gone}shows({id:t,label:e}){return t===this.told?.active?!0:!this.hidden.has(t)&&!this.hiddenClasses.has(e)}colourOf({colour:t,
label:e}){return this.colourBy==="object"||!this.told?t:this.told.class_colours[this.told.classes.indexOf(e)]??t}get held(){
return!this.image||!this.told?[]:this.told.objects.flatMap(t=>{let{version:e,mask:s}=this.masks.get(t.id)??{};return!s||
e===void 0||!this.shows(t)?[]:[{each:t,version:e,mask:s,colour:this.colourOf(t)}]})}objectAt([t,e]){let{image:s}=this;if(!s)
return null;let[o,n]=[(t+.5)/s.width,(e+.5)/s.height],r=this.held.filter(({mask:a})=>a.at(o,n));return r.sort((a,l)=>a.mask.
area-l.mask.area),r[0]?.each??null}get chosen(){let t=this.told?.active??null,e=[...this.selected].filter(s=>s!==t);return t===
null?e:[t,...e]}name(t){return this.gone?"disconnected":this.told?this.told.image.phase==="error"?"error":this.image?this.
told.image.phase!=="ready"?"encoding":t?"busy":"ready":"loading":"loading"}unpack(){let t=this.image?.display;if(t)for(let e of this.
masks.values())e.mask??=new x(e.runs,...t)}leave(){this.marks=[],this.preview=this.foreseen=this.drag=this.corner=this.cursor=
null,this.thumbnails=null,this.hidden.clear(),this.selected.clear()}};var fe=["tools","history","object","show","more"],ot=class{#t=new Map;constructor(t){this.page=t,this.name=c("b"),this.progress=
c("small"),this.title=c("button","samjax-title",{type:"button"},[this.name,this.progress]),this.title.addEventListener("\
click",()=>this.page.act("images")),this.ahead=c("span","samjax-ahead",{"aria-hidden":"true"});let e=this.button("next-i\
mage");e.append(this.ahead),this.node=c("div","samjax-bar",{role:"toolbar","aria-label":"Annotation"},[c("div","samjax-g\
roup samjax-images",{},[this.button("previous-image"),this.title,e,this.button("images")]),...fe.map(s=>{let o=y.filter(
n=>n.group===s);return c("div","samjax-group",{},o.map(n=>this.button(n.id)))})])}button(t){let{title:e,keys:s,shown:o}=I(
t),n=c("button","samjax-button",{type:"button","data-action":t,title:`${e} (${V({keys:s,shown:o})})`,"aria-label":e});return n.
innerHTML=N(t),n.addEventListener("click",()=>this.page.act(t)),this.#t.set(t,n),n}refresh(){let{page:t}=this,{told:e}=t.
state;for(let[h,d]of this.#t){let{pressed:u,enabled:p}=I(h);u&&d.setAttribute("aria-pressed",String(u(t))),p&&e&&(d.disabled=
!p(t))}if(!e)return;let{index:s,count:o,name:n,next:r,done:a}=e.image;g(this.name,n),g(this.progress,`${s+1} of ${o}, ${a}\
 done`),this.title.title=`${n}: image ${s+1} of ${o}, ${a} done. List of images (I)`,this.ahead.dataset.phase=r??"";let l=this.#t.
get("next-image");l&&(l.title=`Next image (Page down)${r?`: ${r}`:""}`),this.#t.get("automatic")?.style.setProperty("--s\
j-done",String(e.automatic??0))}};var Kt={loading:"Reading the image",encoding:"Encoding the image: clicks are kept",error:"This image cannot be shown",disconnected:"\
No answer from the kernel: it is busy or stopped. Click here, or run the cell again."};function nt(i,t,e){let s=c("h4","",
{},[t]);return c("section",`samjax-section ${i}`,{},[s,...e])}var rt=class{state=new it;view=new z;canvas=c("canvas","sa\
mjax-canvas",{tabindex:"0",role:"application","aria-label":"Image: click on an object; press ? for the keys"});veil=c("d\
iv","samjax-veil");status=c("span","samjax-status");notice=c("span","samjax-notice",{role:"status"});zoomText=c("span","\
samjax-zoom");root=c("div","samjax-annotator",{"data-state":"loading","data-decoded":"0","data-image":"","data-objects":"\
0","data-active":"","data-hover":"0","data-hover-sent":"0","data-automatic":"","data-lm-suppress-shortcuts":"true","data\
-jp-suppress-context-menu":""});constructor(t,e){this.model=t,this.actions=new U(this),this.hover=new Y(this),this.decoder=
new X(this),this.automatic=new D(this),this.editor=new H(this),this.images=new G(this),this.exporter=new q(this),this.toolbar=
new ot(this),this.review=new st(this),this.candidates=new K(this),this.classes=new Q(this),this.objects=new tt(this),this.
help=Nt(this),this.stage=c("div","samjax-stage",{},[this.canvas,this.veil,this.images.node,this.automatic.node,this.exporter.
node,this.help]),this.#t(e),this.painter=new W(this),this.pointer=new et(this),this.keyboard=new Z(this),this.kernel=new J(
this),this.#i(),this.#s(),this.kernel.send("hello"),this.decoder.begin()}#t(t){this.root.style.setProperty("--sj-height",
`${this.model.get("height")??560}px`);let e=c("div","samjax-line",{"aria-live":"polite",role:"status"},[c("span","samjax\
-lamp"),this.status]);this.root.append(this.toolbar.node,this.automatic.field,this.review.node,c("div","samjax-body",{},
[this.stage,this.#e()]),c("div","samjax-foot",{},[e,this.notice,this.zoomText])),t.append(this.root),Object.assign(this.
root,{samjaxPage:this})}#e(){let{state:t}=this,e=()=>this.painter.paint(),s={min:-8,max:8,step:.25,value:0};this.threshold=
E("samjax-threshold","Threshold",s,u=>this.actions.slide(u));let o={min:0,max:1,step:.05,value:t.opacity},n=E("samjax-op\
acity","Opacity",o,u=>{t.opacity=u,e()}),r={min:2,max:80,step:1,value:t.radius};this.radius=E("samjax-radius","Brush",r,
u=>{t.radius=u,e()});let a={min:.3,max:3,step:.05,value:1},l=E("samjax-brightness","Brightness",a,u=>{t.brightness=u,e()}),
h=E("samjax-contrast","Contrast",a,u=>{t.contrast=u,e()}),d=y.filter(u=>u.group==="edit");return this.object=nt("samjax-\
objectpanel","Object",[c("div","samjax-edits",{},d.map(u=>this.toolbar.button(u.id))),this.radius.row,this.threshold.row,
c("p","samjax-note",{},["Changes the mask that is saved."])]),c("aside","samjax-side",{},[nt("","Masks",[this.candidates.
node]),nt("","Class",[this.classes.node]),nt("samjax-grows","Objects",[this.objects.node]),this.object,c("details","samj\
ax-section samjax-display",{},[c("summary","",{},["Display"]),n.row,l.row,h.row])])}#s(){let t=this.root.parentElement;t&&
(this.root.dataset.theme=dt(t)),this.painter.spoil()}focus(){this.canvas.focus({preventScroll:!0})}focusUnlessField(){let{
activeElement:t}=this.root.getRootNode();t&&this.root.contains(t)&&ct(t)||this.focus()}refresh(){let{state:t,root:e,veil:s}=this,
{told:o}=t,n=t.name(this.kernel.busy),r=this.automatic.choosing;e.dataset.state=n,s.hidden=!(n in Kt),s.textContent=Kt[n]??
"",this.canvas.dataset.mode=r?"pick":t.mode,e.dataset.automatic=r?String(r.runs.length):"",this.toolbar.refresh(),this.automatic.
refresh(),o&&(e.dataset.image=String(o.image.index),e.dataset.objects=String(o.objects.length),e.dataset.active=o.active===
null?"":String(o.active),this.say(o.status.text,o.status.level),this.actions.sliding||this.threshold?.set(o.threshold),this.
images.refresh(),this.classes.refresh(),this.objects.refresh(),this.candidates.refresh(),this.review.refresh(),this.decoder.
follow())}say(t,e="info"){g(this.status,t),this.root.dataset.level=e,this.status.title=t}act(t){this.run(I(t),"")}run(t,e){
(t.enabled?.(this)??!0)&&t.run(this,e),this.refresh(),this.painter.paint()}escape(){let{state:t}=this;this.help.hidden=!0,
this.automatic.picking=!1,this.images.node.hidden||this.images.toggle(),this.exporter.node.hidden||this.exporter.toggle(),
t.selected.clear(),t.drag=t.corner=t.cursor=t.preview=null}setRadius(t){this.state.radius=Math.min(80,Math.max(2,t)),this.
radius?.set(this.state.radius)}zoom(t,e){let{image:s}=this.state;s&&(this.view.zoom(t,e,Math.min(1,40/Math.max(s.width,s.
height))),this.painter.paint())}#i(){this.root.addEventListener("focusin",({target:e})=>{e instanceof Element&&e.setAttribute(
"data-lm-suppress-shortcuts","true")}),this.veil.addEventListener("click",()=>{this.state.gone&&this.kernel.send("hello")}),
this.root.addEventListener("click",e=>{let{target:s}=e;!(s instanceof Element)||!s.closest("button, .samjax-help")||this.
focusUnlessField()}),this.root.addEventListener("contextmenu",e=>{e.target instanceof Element&&e.target.matches("input")||
(e.preventDefault(),e.stopPropagation())}),this.sizes=new ResizeObserver(()=>{this.#s(),this.painter.paintNow()}),this.sizes.
observe(this.stage),this.themes=new MutationObserver(()=>{this.#s(),this.painter.paint()});let t=["class","style","data-\
theme","data-jp-theme-light"];for(let e of[document.documentElement,document.body])this.themes.observe(e,{attributes:!0,
attributeFilter:t});this.scheme=matchMedia("(prefers-color-scheme: dark)"),this.onScheme=()=>this.#s(),this.scheme.addEventListener(
"change",this.onScheme)}close(){this.kernel.close(),this.decoder.close(),this.pointer.close(),this.keyboard.close(),this.
images.close(),this.painter.close(),this.sizes?.disconnect(),this.themes?.disconnect(),this.onScheme&&this.scheme?.removeEventListener(
"change",this.onScheme),this.root.remove()}};var ti={render({model:i,el:t}){let e=new rt(i,t);return()=>e.close()}};export{ti as default};
