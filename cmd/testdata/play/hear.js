// What a listener does with a media element, and what comes of it.

// event resolves when media tells of something, and rejects when it breaks.
const event = (media, name) => new Promise((resolve, reject) => {
  media.addEventListener(name, resolve, {once: true});
  media.addEventListener('error', () => reject(new Error(media.error.message)), {once: true});
});

// hear plays media for a moment, jumps close to its end, and plays it out.
const hear = async (media) => {
  const report = {};
  try {
    media.muted = true;
    media.currentTime = 0; // a media page has begun by itself
    await media.play();
    while (media.currentTime < 0.2) await event(media, 'timeupdate');
    report.heard = media.currentTime;
    report.duration = media.duration;
    const jumped = event(media, 'seeked');
    media.currentTime = media.duration - 0.5;
    await jumped;
    report.jumped = media.currentTime;
    if (!media.ended) await event(media, 'ended');
    report.end = media.currentTime;
  } catch (error) {
    report.error = `${error.name}: ${error.message}`;
  }
  return report;
};

// jump goes on playing media from another moment, if its link still answers. A
// browser tries for half a minute to get more of a link that it could play
// before, so the link is asked too.
const jump = async (media, to) => {
  const report = {};
  try {
    const jumped = event(media, 'seeked');
    jumped.catch(() => {});
    media.currentTime = to;
    const answer = await fetch(media.src, {headers: {Range: 'bytes=0-9'}});
    report.status = answer.status;
    if (answer.ok) await jumped;
    report.jumped = media.seeking ? 0 : media.currentTime;
  } catch (error) {
    report.error = `${error.name}: ${error.message}`;
  }
  return report;
};
